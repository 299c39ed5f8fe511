"""Triangular filters, evenly spaced on Slaney's mel scale (Auditory Toolbox, 1998)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_HERTZ = 200 / 3
"""Width of a mel below 1 kHz."""
_LINEAR = 1000 / _HERTZ
"""Mels below 1 kHz, from where on the scale is logarithmic."""
_GROWTH = math.log(6.4) / 27


def mel_filters(bins: int, bands: int, sample_rate: int) -> Tensor:
    """Filters float32 (bins, bands) with peaks of 1, from 0 Hz to half the sample rate, for bins evenly over
    the same range.

    They are torchaudio's `melscale_fbanks`, which an encoder should not need.
    """
    half = sample_rate / 2
    top = half / _HERTZ if half < 1000 else _LINEAR + math.log(half / 1000) / _GROWTH
    mels = torch.linspace(0, top, bands + 2, dtype=torch.float64)
    edges = torch.where(mels < _LINEAR, mels * _HERTZ, 1000 * torch.exp((mels - _LINEAR) * _GROWTH))
    hertz = torch.linspace(0, half, bins, dtype=torch.float64)[:, None]
    rising = (hertz - edges[:-2]) / edges.diff()[:-1]
    falling = (edges[2:] - hertz) / edges.diff()[1:]
    return torch.minimum(rising, falling).clamp(min=0).float()
