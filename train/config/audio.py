"""Runs that train a model for sound."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from .base import CodecConfig, Source


@dataclass
class DataConfig:
    """Crops and their augmentation."""

    sources: list[Source]
    crop: float = 1.0
    """Seconds; rounded up to whole latent frames, and the decoder's lag is added."""
    cache: str = "runs/cache"
    """Folder for decoded audio (16-bit, memory-mapped, shared by the workers)."""
    workers: int = 1
    gain_db: tuple[float, float] = (-12.0, 6.0)
    pitch: float = 0.3
    """Share of the crops whose pitch and tempo are shifted by up to three semitones."""
    eq: float = 0.2
    """Share of the crops that go through a random gentle equaliser."""
    room: float = 0.0
    """Share of the crops that are placed in a random room."""
    background: float = 0.0
    """Share of the crops that have noise, or a piece of `backgrounds`, 5 to 25 dB below them."""
    lost: float = 0.0
    """Share of the crops that the decoder does not get all packets of."""
    backgrounds: list[Source] = field(default_factory=list)
    """Music and other sounds."""


@dataclass
class LossConfig:
    """Weights of the losses at the first step and from 70 % of the steps on; one number is both.

    The waveform comes first: a network that has learned envelopes of noise does not find back to it.
    """

    waveform: tuple[float, float] = (2.0, 0.15)
    spectrum: tuple[float, float] = (0.0, 3.0)
    mel: tuple[float, float] = (0.0, 3.0)
    loudness: tuple[float, float] = (0.0, 3.0)
    disturbance: tuple[float, float] = (0.0, 1.5)
    similarity: tuple[float, float] = (0.0, 5.0)
    harmonics: tuple[float, float] = (0.0, 2.0)
    rumble: tuple[float, float] = (0.0, 50.0)
    adversarial: tuple[float, float] = (0.0, 0.0)
    """Of what a discriminator, trained alongside, scores a reconstruction; for runs of the decoder only."""
    features: tuple[float, float] = (0.0, 0.0)
    """Of the distance between the discriminator's features."""
    rate: tuple[float, float] = (0.0, 0.0)
    """λ: of the bits a digit that a learned prior, trained alongside, would spend (distortion + λ · rate)."""
    rate_all: tuple[float, float] = (1.0, 1.0)
    """Factor of λ for crops that keep all stages, geometric between one pass over the channels and all."""

    def settled(self) -> LossConfig:
        """The weights of the last steps, from the first on."""
        return LossConfig(*((getattr(self, f.name)[1],) * 2 for f in fields(self)))


@dataclass(kw_only=True)
class AudioTrainConfig(CodecConfig):
    """One training run of an audio model."""

    data: DataConfig
    loss: LossConfig = field(default_factory=LossConfig)
    parts: str = "all"
    """`all`, or `decoder`: the encoder stays as it is, and with it the meaning of tokens and files."""
    adversary: str = ""
    """Discriminator to start from (`adversary.safetensors` of a run with `loss.adversarial`), or random."""
