"""Rumble: what is louder than ever below all voices."""

from __future__ import annotations

import numpy as np
import torch
from fsqcodec.losses.low_frequency import Rumble


def test_rumble_is_what_is_louder_than_ever_below_all_voices(speech: np.ndarray) -> None:
    x = torch.from_numpy(speech[:48000].copy())[None]
    rumble = Rumble(24000)
    assert rumble(x, x) == 0

    def thump(hertz: float, amplitude: float, begin: float = 0.0) -> torch.Tensor:
        first = round(begin * 24000)
        y = x.clone()
        burst = torch.sin(2 * torch.pi * hertz * torch.arange(4800) / 24000) * torch.hann_window(4800)
        y[:, first : first + 4800] += amplitude * burst
        return y

    soft, loud = (float(rumble(thump(40, amplitude), x)) for amplitude in (0.02, 0.1))
    assert 0 < soft < loud
    assert rumble(thump(40, 0.1), thump(40, 0.1, begin=1.0)) < 0.05 * loud  # the original has one as loud
    assert rumble(thump(400, 0.1), x) < 0.01 * loud
    assert rumble(thump(40, 0.0001), x) == 0  # nobody hears it
