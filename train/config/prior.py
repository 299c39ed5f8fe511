"""Runs that fit the prior of a finished model for sound."""

from __future__ import annotations

from dataclasses import dataclass, field

from .audio import DataConfig
from .base import OptimConfig, RunConfig


@dataclass(kw_only=True)
class PriorConfig(RunConfig):
    """One fit of the learned prior; a YAML file with `prior_of` is one."""

    prior_of: str
    """Model whose tokens the prior learns: a shipped name or a `.safetensors` file. It stays as it is."""
    data: DataConfig
    shards: str = ""
    """Token shards (a folder or one) of `fsqcodec corpus tokenize`; `data` is not encoded then."""
    hours: float = 10.0
    """Tokens to learn from, of random pieces of the data."""
    frames: int = 100
    """Latent frames of a piece; about a packet's, since the context restarts with every packet."""
    width: int = 256
    """Hidden units."""
    start: str = ""
    """Float weights to start from (`prior.safetensors` of a run with `loss.rate`); random when empty."""
    steps: int = 6000
    batch: int = 16
    """Pieces a step, over all processes together."""
    lr: float = 2e-3
    quantize_from: float = 0.7
    """Share of the steps after which weights and activations are those of the integer network."""
    log_every: int = 100
    validate_every: int = field(init=False, default=0)
    """Bits are counted on the clips of `validate` in the end only."""
    optim: OptimConfig = field(init=False)
    """From `steps`, `batch` and `lr`: linear decay from the start, and no average."""

    def __post_init__(self) -> None:
        self.optim = OptimConfig(
            self.steps, self.batch, self.lr, betas=(0.9, 0.98), warmup=100, decay=1.0, final=0.0, ema=0.0
        )
