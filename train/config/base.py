"""What every run has: a folder, an optimizer, a seed, and when it saves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Source:
    """A folder or file of training media."""

    path: str
    weight: float = 1.0
    """How often its seconds are drawn, relative to the seconds of other sources."""
    match: str = "*"
    """Glob over file names below the folder; several joined by `|`."""
    exclude: str = ""
    """Files to leave out, a glob like `match`."""


@dataclass
class OptimConfig:
    """Optimizer, schedule and length."""

    steps: int = 100_000
    batch: int = 8
    """Crops a step, over all processes together."""
    lr: float = 1e-3
    betas: tuple[float, float] = (0.8, 0.98)
    """Of AdamW."""
    momentum: float = 0.95
    """Of Muon, which updates the hidden matrices."""
    weight_decay: float = 0.01
    warmup: int = 200
    """Steps of linear warm-up."""
    decay: float = 0.3
    """Share of the steps, at the end, over which the rate falls (warmup-stable-decay)."""
    final: float = 0.02
    """Share of the rate that is left in the end."""
    clip: float = 1.0
    """Norm that the gradient is clipped to."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which is what is published; the weights themselves at 0."""
    dropout: float = 0.4
    """Share of the crops that decode from a random prefix of the stages."""
    no_quantizer: float = 0.05
    """Share of the steps, at the beginning, without rounding."""


@dataclass(kw_only=True)
class RunConfig:
    """What the `Trainer` reads of every run."""

    out: str
    """Folder of the run: checkpoints, log, TensorBoard files."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    seed: int = 0
    validate: str = ""
    """Folder or glob of media to score now and then; nothing when empty."""
    log_every: int = 50
    validate_every: int = 2000
    save_minutes: float = 5.0
    threads: int = 0
    """CPU threads of each process; torch's choice when 0."""
    mixed_precision: str = "auto"
    """`bf16`, `no`, or `auto`: bf16 where the GPU or the processor has instructions for it (AVX512-BF16, AMX,
    Arm's)."""


@dataclass(kw_only=True)
class CodecConfig(RunConfig):
    """A run that trains the networks of a codec."""

    init: str = ""
    """Model to start from: a shipped name or a `.safetensors` file; random weights when empty. Settings under
    `model` win over its own: tensors whose shape they change start at random, blocks that it lacks as if they
    were not there."""
    model: dict[str, Any] = field(default_factory=dict)
    """Settings of the model (`AudioConfig`, `VisualConfig`) that differ from its defaults."""
    cuda_graphs: bool = True
    """Capture the steps of audio models as CUDA graphs on one NVIDIA GPU and replay them."""
    compiled: bool = False
    """Compile the blocks and the losses of audio models (`torch.compile`): a minute's work at the start of a
    run, for shorter steps on a GPU; on CPUs it makes nothing faster."""
