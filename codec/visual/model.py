"""The picture codec network: pixels to latents at 1/16 of the resolution, residual FSQ, and back.

A linear transform of blocks of 16×16, which starts as their principal components, gives latents that a
network then corrects, and the other way round: so training begins where classical transform coding ends.
Space-to-depth is lossless and puts all arithmetic at 1/8 and 1/16 of the resolution; a picture element costs
about 8.2 thousand multiplications to encode and 4.8 to decode. One network serves all qualities: each has a
vector of gains between latents and quantizer (Cui et al. 2021, "Asymmetric gained deep image compression").
Stages beyond the first pass refine the grid (signal-to-noise scalability): fewer of them give a lower quality
of the same file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..quantization.residual_fsq import ResidualFSQ

STRIDE = 16
"""Picture elements, across and down, of a latent position."""
_PATCH = 8
Hold = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class VisualConfig:
    """Shape of a picture model; together with its weights, all that is needed to run it."""

    fine_channels: int = 128
    """Width at 1/8 of the resolution."""
    coarse_channels: int = 192
    """Width at 1/16 of the resolution."""
    encoder_blocks: tuple[int, int] = (3, 3)
    """Blocks at the fine and at the coarse resolution."""
    decoder_blocks: tuple[int, int] = (2, 2)
    """Blocks at the fine and at the coarse resolution."""
    kernel: int = 5
    expansion: int = 2
    levels: tuple[int, ...] = (7, 7, 7, 7)
    """Odd, so that the middle cell is zero."""
    groups: int = 48
    """192 channels: with 64 the best linear transform of 16×16 blocks would end at 29 dB, with 192 at 37."""
    stages: int = 108
    """The twelve groups beyond two passes are the first ones again: low frequencies have the longest
    range."""
    stages_per_layer: int = 12
    """Stages of a layer of the bitstream."""
    qualities: int = 8
    prior_width: int = 36
    """Hidden units of the prior's small networks."""

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> VisualConfig:
        """Config from JSON or YAML values.

        Raises:
            ValueError: an unknown key.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown model setting {', '.join(sorted(unknown))}")
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**settings)

    def to_dict(self) -> dict[str, object]:
        """JSON-ready values; inverse of `from_dict`."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def halo(self) -> int:
        """Latent positions around a tile that its latents, and its pixels when decoded, depend on."""
        reach = self.kernel // 2
        blocks = max(self.encoder_blocks, self.decoder_blocks, key=lambda b: b[0] * _PATCH + b[1] * STRIDE)
        return -(-(reach * (blocks[0] * _PATCH + blocks[1] * STRIDE)) // STRIDE)


class Block(nn.Module):
    """Depthwise convolution, widen, GELU, narrow, scaled residual: (B, H, W, C) → (B, H, W, C).

    ConvNeXt (Liu et al. 2022) without its normalisation, which would hide the contrast that has to be coded.
    """

    def __init__(self, channels: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.widen = nn.Linear(channels, expansion * channels)
        self.narrow = nn.Linear(expansion * channels, channels)
        self.gain = nn.Parameter(torch.full((channels,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out."""
        # In bf16 the backward pass takes three times as long on CPUs.
        with torch.autocast("cpu", enabled=False):
            y = self.depthwise(x.float().permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        added: Tensor = self.narrow(F.gelu(self.widen(y)))
        return x + self.gain * added


def _blocks(count: int, channels: int, config: VisualConfig) -> nn.Sequential:
    return nn.Sequential(*(Block(channels, config.kernel, config.expansion) for _ in range(count)))


def _gather(x: Tensor, size: int) -> Tensor:
    return rearrange(x, "b (h p) (w q) c -> b h w (p q c)", p=size, q=size)


def _scatter(x: Tensor, size: int) -> Tensor:
    return rearrange(x, "b h w (p q c) -> b (h p) (w q) c", p=size, q=size)


class Encoder(nn.Module):
    """Pixels (B, H, W, 3) in [-1, 1], H and W multiples of 16 → latents (B, H/16, W/16, D), unbounded."""

    def __init__(self, config: VisualConfig, channels: int) -> None:
        super().__init__()
        c = config
        self.linear = nn.Linear(3 * STRIDE**2, channels)
        self.project = nn.Linear(3 * _PATCH**2, c.fine_channels)
        self.fine = _blocks(c.encoder_blocks[0], c.fine_channels, c)
        self.down = nn.Linear(4 * c.fine_channels, c.coarse_channels)
        self.coarse = _blocks(c.encoder_blocks[1], c.coarse_channels, c)
        self.out = nn.Linear(c.coarse_channels, channels)
        self.log_gain = nn.Parameter(_first_gains(c, channels))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """Latents of pictures at qualities int64 (B,)."""
        y: Tensor = self.fine(self.project(_gather(x, _PATCH)))
        y = self.out(self.coarse(self.down(_gather(y, 2)))).float()
        y = y + self.linear(_gather(x, STRIDE)).float()
        return y * self.log_gain[quality].exp()[:, None, None]


class Decoder(nn.Module):
    """Quantized latents (B, h, w, D) in (-1, 1) → pixels (B, 16 h, 16 w, 3), about [-1, 1]."""

    def __init__(self, config: VisualConfig, channels: int) -> None:
        super().__init__()
        c = config
        self.linear = nn.Linear(channels, 3 * STRIDE**2)
        self.project = nn.Linear(channels, c.coarse_channels)
        self.coarse = _blocks(c.decoder_blocks[1], c.coarse_channels, c)
        self.up = nn.Linear(c.coarse_channels, 4 * c.fine_channels)
        self.fine = _blocks(c.decoder_blocks[0], c.fine_channels, c)
        self.out = nn.Linear(c.fine_channels, 3 * _PATCH**2)
        self.log_gain = nn.Parameter(-_first_gains(c, channels))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, values: Tensor, quality: Tensor) -> Tensor:
        """Pixels of latents that were coded at qualities int64 (B,)."""
        unbent = torch.atanh(values.float()) * self.log_gain[quality].exp()[:, None, None]
        y = _scatter(self.up(self.coarse(self.project(unbent))), 2)
        return (
            _scatter(self.out(self.fine(y)), _PATCH).float() + _scatter(self.linear(unbent), STRIDE).float()
        )


def _first_gains(config: VisualConfig, channels: int) -> Tensor:
    """Logarithms of gains (qualities, D) that give steps of 0.5 … 0.1 of an orthonormal transform's
    coefficients."""
    steps = torch.linspace(math.log(0.5), math.log(0.1), config.qualities)[:, None]
    passes = torch.full((channels,), config.stages // config.groups)
    passes[: config.stages % config.groups * len(config.levels)] += 1
    return math.log(2) - passes * math.log(config.levels[0]) - steps


class VisualModel(nn.Module):
    """Encoder, quantizer and decoder for RGB pictures."""

    kind, int8_matrices = "visual", False
    """Modality in model files, and whether they hold matrices in 8 bits."""

    def __init__(self, config: VisualConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = ResidualFSQ(config.levels, config.groups, config.stages)
        self.encoder = Encoder(config, self.quantizer.channels)
        self.decoder = Decoder(config, self.quantizer.channels)

    def digits(self, tokens: Tensor) -> Tensor:
        """Centred digits float32 (..., passes, D), 0 in the middle cell, of tokens int64 (..., stages)."""
        return self.centred(self.quantizer.stage_digits(tokens))

    def places(self, z: Tensor) -> Tensor:
        """Unrounded centred digits float32 (..., passes, D) of latents (..., D), with gradients."""
        return self.centred(self.quantizer.positions(z))

    def centred(self, x: Tensor) -> Tensor:
        """Digits by stage (..., n, d) as centred digits by pass float32 (..., passes, D), 0 where there is no
        stage."""
        flat = x.flatten(-2).float() - self.config.levels[0] // 2
        missing = self.quantizer.passes * self.quantizer.channels - flat.shape[-1]
        return torch.unflatten(F.pad(flat, (0, missing)), -1, (self.quantizer.passes, -1))

    @torch.no_grad()
    def start_from(self, blocks: Tensor) -> None:
        """Make the linear transforms the principal components of blocks float32 (n, 3·16·16) in [-1, 1]."""
        mean = blocks.mean(0)
        _, axes = torch.linalg.eigh(torch.cov((blocks - mean).T))
        basis = axes.flip(1)[:, : self.quantizer.channels]
        self.encoder.linear.weight.copy_(basis.T)
        self.encoder.linear.bias.copy_(-mean @ basis)
        self.decoder.linear.weight.copy_(basis)
        self.decoder.linear.bias.copy_(mean)

    def forward(
        self, x: Tensor, quality: Tensor, stages: Tensor, hold: Hold | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct a batch for training.

        Args:
            x: pixels float32 (B, H, W, 3) in [-1, 1], H and W multiples of 16.
            quality: int64 (B,), 0 … qualities - 1.
            stages: int64 (B,), how many stages are decoded.
            hold: what makes latents, quantized values and tokens stay as they were a frame before, ahead of
                decoding.

        Returns:
            the reconstruction float32 (B, H, W, 3), tokens int64 (B, h, w, stages), and the latents (B, h, w,
            D) that they come from.
        """
        z = self.encoder(x, quality)
        values, tokens = self.quantizer(z, stages)
        if hold:
            z, values, tokens = hold(z, values, tokens)
        return self.decoder(values, quality), tokens, z
