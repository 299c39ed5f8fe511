"""The audio codec network: encoder, residual FSQ and decoder, causal, on blocks of any whole frames.

Delay: a latent frame of `hop·stride` samples is awaited, and the last `window - hop` samples of the output
are finished by the next frames: 20 + 20 = 40 ms with the defaults. Nothing else looks ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..nn.stream_state import History
from ..quantization.residual_fsq import ResidualFSQ
from .blocks import Analysis, Blocks, Synthesis
from .excitation import Excitation


@dataclass(frozen=True)
class AudioConfig:
    """Shape of an audio model; together with its weights, all that is needed to run it."""

    sample_rate: int = 24000
    window: int = 720
    """Samples of a spectral frame."""
    hop: int = 240
    """Samples between spectral frames; a third of the window."""
    stride: int = 2
    """Spectral frames in a latent frame."""
    fine_channels: int = 256
    """Width of the blocks at the rate of the spectral frames."""
    coarse_channels: int = 384
    """Width of the blocks at the rate of the latents."""
    encoder_blocks: tuple[int, int] = (3, 2)
    """Blocks at the fine and at the coarse rate."""
    decoder_blocks: tuple[int, int] = (4, 2)
    """Blocks at the fine and at the coarse rate."""
    kernel: int = 7
    expansion: int = 3
    levels: tuple[int, ...] = (5, 5, 5, 5)
    groups: int = 20
    stages: int = 24
    """Stages beyond `groups` refine the first groups once more."""
    excitation: float = 0.0
    """Hz above which the decoder shapes an excitation (`Excitation`) and follows no waveform; none when 0.
    Tokens do not depend on it."""

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> AudioConfig:
        """Config from JSON or YAML values.

        Raises:
            ValueError: an unknown key, or a window that is not three hops.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown model setting {', '.join(sorted(unknown))}")
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        config = cls(**settings)
        if config.window != 3 * config.hop:
            raise ValueError(f"window {config.window} must be three hops of {config.hop}")
        return config

    def to_dict(self) -> dict[str, object]:
        """JSON-ready values; inverse of `from_dict`."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def frame(self) -> int:
        """Samples in a latent frame."""
        return self.hop * self.stride

    @property
    def lag(self) -> int:
        """Samples by which the decoder's output is late against its input blocks."""
        return self.window - self.hop

    @property
    def frame_rate(self) -> float:
        """Latent frames in a second."""
        return self.sample_rate / self.frame


class Encoder(nn.Module):
    """Samples (B, T·frame) → latents (B, T, D), unbounded."""

    def __init__(self, config: AudioConfig, channels: int) -> None:
        super().__init__()
        c = config
        self.stride = c.stride
        self.analysis = Analysis(c.window, c.hop)
        self.project = nn.Linear(3 * self.analysis.bins, c.fine_channels)
        self.norm = nn.LayerNorm(c.fine_channels)
        self.fine = Blocks(c.encoder_blocks[0], c.fine_channels, c.kernel, c.expansion)
        self.down_norm = nn.LayerNorm(c.fine_channels * c.stride)
        self.down = nn.Linear(c.fine_channels * c.stride, c.coarse_channels)
        self.coarse = Blocks(c.encoder_blocks[1], c.coarse_channels, c.kernel, c.expansion)
        self.out_norm = nn.LayerNorm(c.coarse_channels)
        self.out = nn.Linear(c.coarse_channels, channels)

    def forward(self, x: Tensor, history: History | None = None) -> Tensor:
        """Latents of whole latent frames of samples."""
        y = self.fine(self.norm(self.project(self.analysis(x, history))), history)
        y = self.down(self.down_norm(rearrange(y, "b (t s) c -> b t (s c)", s=self.stride)))
        latents: Tensor = self.out(self.out_norm(self.coarse(y, history)))
        return latents


class Decoder(nn.Module):
    """Quantized latents (B, T, D) → samples (B, T·frame), `lag` samples late."""

    def __init__(self, config: AudioConfig, channels: int, stages: int) -> None:
        super().__init__()
        c = config
        self.stride = c.stride
        self.project = nn.Linear(channels, c.coarse_channels)
        # A zero latent may be a decoded zero or a dropped stage: the number of stages tells which.
        self.stages = nn.Embedding(stages + 1, c.coarse_channels)
        nn.init.zeros_(self.stages.weight)
        self.coarse = Blocks(c.decoder_blocks[1], c.coarse_channels, c.kernel, c.expansion)
        self.up_norm = nn.LayerNorm(c.coarse_channels)
        self.up = nn.Linear(c.coarse_channels, c.fine_channels * c.stride)
        self.fine = Blocks(c.decoder_blocks[0], c.fine_channels, c.kernel, c.expansion)
        self.out_norm = nn.LayerNorm(c.fine_channels)
        self.synthesis = Synthesis(c.window, c.hop)
        self.out = nn.Linear(c.fine_channels, 3 * self.synthesis.bins)
        with torch.no_grad():
            self.out.bias[: self.synthesis.bins] = -1.0  # start quiet
        self.excitation = (
            Excitation(c.excitation, c.sample_rate, c.window, c.stride, channels, c.fine_channels)
            if c.excitation
            else None
        )

    def forward(self, values: Tensor, stages: Tensor, history: History | None = None) -> Tensor:
        """Samples of latents (B, T, D) that were decoded from `stages` int64 (B, 1 or T) stages."""
        y = self.coarse(self.project(values) + self.stages(stages), history)
        y = rearrange(self.up(self.up_norm(y)), "b t (s c) -> b (t s) c", s=self.stride)
        features = self.out_norm(self.fine(y, history))
        y = self.out(features).float()
        if self.excitation:
            y = self.excitation(y, features, values)
        samples: Tensor = self.synthesis(y, history)
        return samples


class AudioModel(nn.Module):
    """Encoder, quantizer and decoder for mono audio at `config.sample_rate`, samples in [-1, 1]."""

    kind, int8_matrices = "audio", True
    """Modality in model files, and whether they hold matrices in 8 bits."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = ResidualFSQ(config.levels, config.groups, config.stages)
        self.encoder = Encoder(config, self.quantizer.channels)
        self.decoder = Decoder(config, self.quantizer.channels, self.quantizer.stages)

    def forward(
        self, x: Tensor, stages: Tensor, quantize: bool = True, frames: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct a batch for training.

        Args:
            x: samples float32 (B, N); N a multiple of the latent frame.
            stages: int64 (B,), the number of stages to decode for each item.
            quantize: False passes the bounded latents on unrounded (the first steps of training).
            frames: int64 (B, T), the latent frame that the decoder sees in place of each; itself when None.

        Returns:
            the reconstruction float32 (B, N - lag) of x[:, : N - lag], tokens int64 (B, T, stages), and the
            latents (B, T, D) that they come from.
        """
        z = self.encoder(x)
        values, tokens = self.quantizer(z, stages)
        if not quantize:
            values = torch.tanh(z.float())
            stages = torch.full_like(stages, self.quantizer.stages)
        if frames is not None:
            values = values.gather(1, frames[..., None].expand_as(values))
        y = self.decoder(values, stages[:, None])
        return y[:, self.config.lag :], tokens, z

    def encode(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens of a batch of clips of different lengths.

        The network is causal, so what is padded at the end changes nothing before it.

        Args:
            x: samples float32 (B, N), any N.
            lengths: samples of each clip int64 (B,), N for all when None; the rest is ignored.

        Returns:
            tokens int64 (B, T, stages), 0 where the mask is False; the values float32 (B, T, D) that they
            stand for, with gradients to x through the straight-through estimator; and the mask bool (B, T) of
            each clip's frames.
        """
        frame, lag = self.config.frame, self.config.lag
        if lengths is None:
            lengths = torch.full((len(x),), x.shape[1], device=x.device)
        inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        frames = -(-(lengths + lag) // frame) * (lengths > 0)
        most = -(-(x.shape[1] + lag) // frame)
        padded = nn.functional.pad(x * inside, (0, most * frame - x.shape[1]))
        values, tokens = self.quantizer(self.encoder(padded))
        mask = torch.arange(most, device=x.device) < frames[:, None]
        return tokens * mask[..., None], values, mask

    def decode(self, latents: Tensor, mask: Tensor | None = None, stages: Tensor | None = None) -> Tensor:
        """Samples float32 (B, T·frame - lag) of a batch, aligned with the originals; silence where the mask
        is False.

        Args:
            latents: tokens int64 (B, T, n), a prefix of the stages, or values float32 (B, T, D) of all
                stages.
            mask: bool (B, T), frames of each clip; all when None.
            stages: int64 (B,), how many of the stages to decode from; all that there are when None.

        Raises:
            ValueError: more stages than the quantizer has, or a token outside its codebook.
        """
        count = torch.full((len(latents),), self.quantizer.stages, device=latents.device)
        values = latents
        if not latents.is_floating_point():
            count = count.clamp(max=latents.shape[-1]) if stages is None else stages
            values = self.quantizer.decode(latents, count)
        y: Tensor = self.decoder(values, count[:, None])
        if mask is not None:
            y = y * mask.repeat_interleave(self.config.frame, 1)
        return y[:, self.config.lag :]
