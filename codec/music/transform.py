"""A lapped transform with switched blocks: frames of 960 samples as one, two or four MDCT blocks.

Time-domain aliasing and DCT-IV: at every border between two blocks the samples on both sides are rotated in
pairs by the window, then each block is transformed alone. Both steps are orthogonal, so the inverse is the
transpose and reconstruction is exact for any sequence of block types. The overlap at a border is as long as the
shorter of the two blocks there: B. Edler, "Codierung von Audiosignalen mit überlappender Transformation und
adaptiven Fensterfunktionen", Frequenz 43 (1989). The aliasing view: H. Malvar, "Signal Processing with Lapped
Transforms" (1992).

The first and the last border of a signal have no overlap, so n samples make ceil(n / 960) frames and no more.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FRAME = 960
"""Samples of a frame: 20 ms at 48 kHz."""

BLOCKS = (1, 2, 4)
"""Blocks of a frame by block type."""


def frame_count(samples: int) -> int:
    """Frames that hold so many samples; the last one may be filled with zeros."""
    return -(-samples // FRAME)


def window(overlap: int, power_complementary: str = "sine") -> Tensor:
    """The rising window's upper half over an overlap, float64, (overlap / 2,), nearest the border first.

    sine has the best coding gain and vorbis (Vorbis I specification, 4.3.1) the better far rejection. Its cosine
    counterpart is the same window mirrored: w(-t)² + w(t)² = 1.
    """
    place = (torch.arange(overlap // 2, dtype=torch.float64) + 0.5 + overlap // 2) / overlap
    half = torch.sin(math.pi / 2 * place)
    if power_complementary == "sine":
        return half
    if power_complementary == "vorbis":
        return torch.sin(math.pi / 2 * half**2)
    raise ValueError(f"unknown window: {power_complementary}")


def dct4(size: int) -> Tensor:
    """The orthonormal DCT-IV, float64, (size, size): symmetric and its own inverse."""
    place = torch.arange(size, dtype=torch.float64) + 0.5
    return math.sqrt(2 / size) * torch.cos(math.pi / size * place[:, None] * place[None, :])


class LappedTransform(nn.Module):
    """Samples to coefficients and back, each frame in the block type asked for."""

    dct_0: Tensor
    dct_1: Tensor
    dct_2: Tensor
    straight: Tensor
    crossed: Tensor

    def __init__(self, shape: str = "sine") -> None:
        super().__init__()
        half = FRAME // 2
        # Rotations by block size of the shorter neighbour, identity outside its overlap; the last row: no overlap.
        straight = torch.ones(len(BLOCKS) + 1, half, dtype=torch.float64)
        for kind, blocks in enumerate(BLOCKS):
            rising = window(FRAME // blocks, shape)
            straight[kind, : len(rising)] = rising
            self.register_buffer(f"dct_{kind}", dct4(FRAME // blocks).float(), persistent=False)
        crossed = (1 - straight**2).clamp_min(0).sqrt()
        self.register_buffer("straight", straight.float(), persistent=False)
        self.register_buffer("crossed", crossed.float(), persistent=False)

    def forward(self, samples: Tensor, types: Tensor) -> Tensor:
        """Coefficients, float32, (..., frames, 960), of samples, float32, (..., n).

        types, int64, broadcasts to (..., frames): 0, 1, 2 for 1×960, 2×480, 4×240. The coefficients of a frame are
        sorted by frequency: those of the blocks at one frequency stand together, in time order.
        """
        frames = frame_count(samples.shape[-1])
        padded = nn.functional.pad(samples, (0, frames * FRAME - samples.shape[-1]))
        shaped = padded.reshape(*samples.shape[:-1], frames, FRAME)
        types = types.expand(shaped.shape[:-1])
        shaped = self._inner(self._outer(shaped, types, 1.0), types, 1.0)
        coefficients = shaped @ self.dct_0
        for kind in range(1, len(BLOCKS)):
            chosen, blocks = types == kind, BLOCKS[kind]
            short = torch.unflatten(shaped[chosen], -1, (blocks, FRAME // blocks)) @ getattr(
                self, f"dct_{kind}"
            )
            coefficients[chosen] = short.transpose(-1, -2).flatten(-2)
        return coefficients

    def inverse(self, coefficients: Tensor, types: Tensor, samples: int | None = None) -> Tensor:
        """Samples, float32, (..., samples), of coefficients, float32, (..., frames, 960); all when None."""
        types = types.expand(coefficients.shape[:-1])
        shaped = coefficients @ self.dct_0
        for kind in range(1, len(BLOCKS)):
            chosen, blocks = types == kind, BLOCKS[kind]
            short = torch.unflatten(coefficients[chosen], -1, (FRAME // blocks, blocks)).transpose(-1, -2)
            shaped[chosen] = (short @ getattr(self, f"dct_{kind}")).flatten(-2)
        shaped = self._outer(self._inner(shaped, types, -1.0), types, -1.0)
        return shaped.flatten(-2)[..., :samples]

    def _outer(self, shaped: Tensor, types: Tensor, direction: float) -> Tensor:
        """Rotate the samples around the borders between frames; direction is 1 or, backwards, -1."""
        half = FRAME // 2
        shorter = torch.maximum(types[..., :-1], types[..., 1:])
        straight, crossed = self.straight[shorter], self.crossed[shorter] * direction
        before, after = shaped[..., :-1, half:].flip(-1), shaped[..., 1:, :half]
        left = straight * before - crossed * after
        right = straight * after + crossed * before
        first, last = shaped[..., :1, :half], shaped[..., -1:, half:]
        return torch.cat(
            (torch.cat((first, right), -2), torch.cat((left.flip(-1), last), -2)),
            -1,
        )

    def _inner(self, shaped: Tensor, types: Tensor, direction: float) -> Tensor:
        """Rotate the samples around the borders between the blocks of a frame."""
        shaped = shaped.clone()
        for kind in range(1, len(BLOCKS)):
            chosen, size = types == kind, FRAME // BLOCKS[kind]
            half = size // 2
            straight, crossed = self.straight[kind, :half], self.crossed[kind, :half] * direction
            frames = shaped[chosen]
            inside = torch.unflatten(frames[..., half:-half], -1, (BLOCKS[kind] - 1, size))
            before, after = inside[..., :half].flip(-1), inside[..., half:]
            left = straight * before - crossed * after
            right = straight * after + crossed * before
            turned = torch.cat((left.flip(-1), right), -1).flatten(-2)
            shaped[chosen] = torch.cat((frames[..., :half], turned, frames[..., -half:]), -1)
        return shaped


def perceptual_entropy(coefficients: Tensor, steps: Tensor) -> Tensor:
    """About how many bits a frame takes, float32, (..., frames): the sum of log2(1 + |coefficient| / step).

    After J. Johnston, "Estimation of perceptual entropy using noise masking criteria", ICASSP 1988.
    """
    return torch.log2(1 + coefficients.abs() / steps).sum(-1)
