"""Mel filters are the textbook's."""

from __future__ import annotations

import pytest
import torch
import torchaudio.functional as AF
from fsqcodec.losses.mel import mel_filters


@pytest.mark.parametrize(("bins", "bands", "rate"), [(257, 64, 24000), (1025, 256, 24000), (201, 40, 16000)])
def test_mel_filters_are_those_of_torchaudio(bins: int, bands: int, rate: int) -> None:
    expected = AF.melscale_fbanks(bins, 0.0, rate / 2, bands, rate, mel_scale="slaney")
    assert torch.allclose(mel_filters(bins, bands, rate), expected, atol=1e-4)
