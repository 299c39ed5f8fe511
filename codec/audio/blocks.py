"""Causal layers on (B, T, C): spectral front and back end, and the ConvNeXt-like block between them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.stream_state import History, extend


def to_spectrum(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts (…, n // 2 + 1) of real frames float32 (…, n)."""
    if torch.compiler.is_exporting():
        cosine, sine = _waves(frames.shape[-1])
        return frames @ cosine.T, -(frames @ sine.T)
    found = torch.fft.rfft(frames)
    return found.real, found.imag


def from_spectrum(real: Tensor, imag: Tensor, size: int) -> Tensor:
    """Real frames (…, size) of the first bins of their spectra, float32 (…, bins); the other bins are 0."""
    if torch.compiler.is_exporting():
        cosine, sine = _waves(size)
        bins = real.shape[-1]
        share = torch.full((bins,), 2.0 / size)
        share[:: size // 2] /= 2
        return (real * share) @ cosine[:bins] - (imag * share) @ sine[:bins]
    frames: Tensor = torch.fft.irfft(torch.complex(real, imag), n=size)
    return frames


def _waves(size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (size // 2 + 1, size). As products with them onnxruntime transforms sizes that are no
    powers of two several times as fast as by its own operator."""
    turns = torch.arange(size // 2 + 1)[:, None] * torch.arange(size) % size
    angles = turns.double() * (2 * torch.pi / size)
    return angles.cos().float(), angles.sin().float()


class Analysis(nn.Module):
    """Causal short-time spectrum: samples (B, T·hop) → features float32 (B, T, 3·bins).

    Frame j covers samples (j+1)·hop - window … (j+1)·hop: it ends where its hop ends. The features are the
    log magnitude, and the real and imaginary parts divided by the square root of the magnitude, which keeps
    phase while it compresses the range of levels.
    """

    window: Tensor

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        self.hop, self.bins = hop, window // 2 + 1
        self.register_buffer("window", torch.hann_window(window), persistent=False)

    def forward(self, x: Tensor, history: History | None = None) -> Tensor:
        """Spectral features of whole hops of samples."""
        past = len(self.window) - self.hop
        hops = torch.unflatten(extend(self, x.float(), past, history), 1, (-1, self.hop))
        count = hops.shape[1] - past // self.hop
        frames = torch.cat([hops[:, i : i + count] for i in range(past // self.hop + 1)], dim=-1)
        real, imag = to_spectrum(frames * self.window)
        power = real.square() + imag.square() + 1e-7
        compress = power**-0.25
        return torch.cat([0.25 * power.log(), real * compress, imag * compress], dim=-1)


def magnitude(log: Tensor) -> Tensor:
    """Magnitudes of predicted logarithms, bounded: no prediction may be infinite."""
    return log.clamp(max=6.0).exp()


class Synthesis(nn.Module):
    """Inverse of `Analysis` for predicted spectra: (B, T, 3·bins) → samples (B, T·hop), window - hop late.

    The three predictions of a bin are a log magnitude a and a complex number c; the bin is exp(a)·c. Frames
    are windowed and overlap-added; the unfinished tail of a block waits in the history.
    """

    window: Tensor

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        self.hop, self.bins = hop, window // 2 + 1
        hann = torch.hann_window(window)
        # Hann² at a hop of a third of the window adds up to a constant, which is divided out.
        self.register_buffer("window", hann * (hop / hann.square().sum()), persistent=False)

    def forward(self, x: Tensor, history: History | None = None) -> Tensor:
        """Samples finished by these frames; sample 0 is `window - hop` samples before the block."""
        log_magnitude, real, imag = x.float().chunk(3, dim=-1)
        scale = magnitude(log_magnitude)
        frames = from_spectrum(scale * real, scale * imag, len(self.window))
        overlaps = len(self.window) // self.hop
        joined = extend(self, frames * self.window, overlaps - 1, history)
        pieces = torch.unflatten(joined, -1, (overlaps, self.hop))
        count = x.shape[1]
        # Hop t of the output is piece 0 of frame t, piece 1 of frame t-1, …
        out = sum(pieces[:, overlaps - 1 - i : overlaps - 1 - i + count, i] for i in range(overlaps))
        assert isinstance(out, Tensor)
        return out.flatten(1)


class CausalDepthwise(nn.Module):
    """Depthwise convolution over time on (B, T, C) that sees the present and kernel - 1 past frames."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        # A 2-d convolution in channels-last layout: seven times as fast on CPUs, forward and backward, as
        # Conv1d on (B, C, T), and (B, T, C) is that layout already.
        self.conv = nn.Conv2d(channels, channels, (kernel, 1), groups=channels)

    def forward(self, x: Tensor, history: History | None = None) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        padded = extend(self, x, self.kernel - 1, history)
        if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
            # One kernel with what comes before and after it.
            y = torch.zeros_like(x)
            for i, tap in enumerate(self.conv.weight[:, 0, :, 0].unbind(-1)):
                y = y + padded[:, i : i + x.shape[1]] * tap
            return y + self.conv.get_parameter("bias")
        convolved: Tensor = self.conv(padded.transpose(1, 2).unsqueeze(-1))
        return convolved.squeeze(-1).transpose(1, 2)


class Block(nn.Module):
    """ConvNeXt block (Liu et al. 2022), causal: depthwise, norm, widen, GELU, narrow, scaled residual."""

    def __init__(self, channels: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = CausalDepthwise(channels, kernel)
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, expansion * channels)
        self.narrow = nn.Linear(expansion * channels, channels)
        self.gain = nn.Parameter(torch.full((channels,), 0.2))

    def forward(self, x: Tensor, history: History | None = None) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        y: Tensor = self.narrow(F.gelu(self.widen(self.norm(self.depthwise(x, history)))))
        return x + self.gain * y


class Blocks(nn.ModuleList):
    """A stack of blocks at one frame rate."""

    def __init__(self, count: int, channels: int, kernel: int, expansion: int) -> None:
        super().__init__(Block(channels, kernel, expansion) for _ in range(count))

    def forward(self, x: Tensor, history: History | None = None) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        for block in self:
            x = block(x, history)
        return x
