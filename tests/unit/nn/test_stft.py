"""Spectra and their gradient."""

from __future__ import annotations

import pytest
import torch
from fsqcodec.nn.stft import spectra


@pytest.mark.parametrize(("samples", "size", "hop"), [(3000, 512, 128), (3001, 768, 384), (2048, 2048, 512)])
def test_spectra_and_their_gradient_are_those_of_the_transform(samples: int, size: int, hop: int) -> None:
    x = torch.randn(2, samples, dtype=torch.float64, requires_grad=True)
    window = torch.hann_window(size, dtype=torch.float64)
    wanted = torch.fft.rfft(x.unfold(1, size, hop) * window)
    parts, expected = spectra(x, window, hop), (wanted.real, wanted.imag)
    weights = [torch.randn_like(part) for part in expected]
    slopes = [
        torch.autograd.grad(sum((a * b).sum() for a, b in zip(weights, both, strict=True)), x)[0]
        for both in (parts, expected)
    ]
    assert all(torch.equal(a, b) for a, b in zip(parts, expected, strict=True))
    assert torch.allclose(*slopes)
