"""Short-time spectra that losses compare, with a backward pass of half the work.

The gradient of a real transform is real: one inverse real transform, overlapped and added. Autograd pads the
gradient to a complex transform of full length instead, and adds up full-size gradients of slices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def surroundings(hertz: Tensor, reach: float) -> Tensor:
    """Matrix float32 (bins, bins): power (…, bins) times it is the mean around every bin.

    Args:
        hertz: middles of the bins (bins,).
        reach: Hz to either side that count.
    """
    near = ((hertz[:, None] - hertz).abs() <= reach).float()
    return near / near.sum(0)


def unit_hann(size: int) -> Tensor:
    """Hann window float32 (size,) of energy 1: white noise keeps its power in every bin."""
    hann = torch.hann_window(size)
    return hann / hann.square().sum().sqrt()


def spectra(x: Tensor, window: Tensor, hop: int) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts, float32 (B, T, W // 2 + 1), of whole frames; frame j begins at sample j·hop.

    Args:
        x: float32 (B, N), N at least W; samples behind the last whole frame are ignored.
        window: float32 (W,), W even; no gradient goes to it.
        hop: samples between frames.
    """
    real, imag = _Spectra.apply(x, window, hop)  # type: ignore[no-untyped-call, unused-ignore]
    return real, imag


def powers(x: Tensor, window: Tensor, hop: int) -> Tensor:
    """Powers float32 (B, T, W // 2 + 1) of `spectra`."""
    real, imag = spectra(x, window, hop)
    return real.square() + imag.square()


def emphasise(x: Tensor, share: float) -> Tensor:
    """Samples (B, N) less `share` of the ones before them, (B, N - 1): highs come out, lows go back."""
    return x[:, 1:] - share * x[:, :-1]


class _Spectra(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Tensor, hop: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(window)
        ctx.hop, ctx.shape = hop, x.shape
        found = torch.fft.rfft(x.unfold(1, len(window), hop) * window)
        return found.real, found.imag

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (window,) = ctx.saved_tensors
        size, hop = len(window), ctx.hop
        # Re Σ_k g_k exp(2πi·kn/W) over the bins that there are; the inverse transform counts inner bins
        # twice.
        both = torch.complex(*grads)
        both[..., 1:-1] *= 0.5
        frames = torch.fft.irfft(both, n=size, norm="forward") * window
        into = frames.new_zeros(ctx.shape)
        count = frames.shape[1]
        for start in range(0, size, hop):
            piece = frames[..., start : start + hop]
            rows = into[:, start:].unfold(1, piece.shape[-1], hop)[:, :count]
            rows += piece
        return into, None, None
