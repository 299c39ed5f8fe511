"""Runs that train a model for pictures and video."""

from __future__ import annotations

from dataclasses import dataclass, field

from .base import CodecConfig, Source


@dataclass
class VisualDataConfig:
    """Crops of pictures and of clips."""

    sources: list[Source]
    crop: int = 128
    """Width and height of crops of pictures, a multiple of 16."""
    clip_crop: int = 96
    """Width and height of crops of clips."""
    frames: int = 4
    """Neighbouring frames in a crop of a clip."""
    clips: float = 0.25
    """Share of the steps that see clips, for the prior of video."""
    cache: str = "runs/cache"
    workers: int = 1


@dataclass
class VisualLossConfig:
    """Distortion and rate: λ · squared error (of 255) + bits, both a pixel."""

    lambdas: tuple[float, float] = (0.0016, 0.06)
    """λ of the lowest and of the highest quality, geometric in between."""
    seams: float = 0.0
    """Weight, beside the squared error, of its steps at block borders in flat areas (`blocking_loss`)."""


@dataclass(kw_only=True)
class VisualTrainConfig(CodecConfig):
    """One training run of a picture model; a YAML file with `kind: visual` is one."""

    data: VisualDataConfig
    loss: VisualLossConfig = field(default_factory=VisualLossConfig)
    quantize_from: float = 0.75
    """Share of the steps after which the prior computes in the steps of its integers."""
