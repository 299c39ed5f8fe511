"""Losses hear what the ear hears."""

from __future__ import annotations

import numpy as np
import torch
from fsqcodec.losses.reconstruction import ReconstructionLoss


def test_losses_rank_what_the_ear_ranks(speech: np.ndarray) -> None:
    torch.manual_seed(0)
    loss = ReconstructionLoss(24000)
    x = torch.from_numpy(speech[:48000].copy()).reshape(2, 24000)
    noise = torch.nn.functional.avg_pool1d(torch.randn(2, 24004), 5, 1)[:, :24000] * 0.01
    same, near, far, silent = (loss(y, x) for y in (x, x + 0.1 * noise, x + noise, torch.zeros_like(x)))
    for name in ("waveform", "spectrum", "mel"):
        assert same[name].shape == (2,)
        assert (same[name] < near[name]).all()
        assert (near[name] < far[name]).all()
        assert far[name].mean() < silent[name].mean() + 0.1
    assert (same["mel"] == 0).all()
