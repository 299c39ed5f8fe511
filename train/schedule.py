"""What changes with the steps of a run: the learning rate, and the weights of the losses."""

from __future__ import annotations

from .config.base import OptimConfig

_RAMP = 0.7
"""Share of the steps after which the weights of the losses have their last values."""


def learning_rate(step: int, config: OptimConfig) -> float:
    """Warmup-stable-decay (Hu et al. 2024): linear up, constant, then linear down to a share of it."""
    decay = max(1, round(config.steps * config.decay))
    up = min(1.0, (step + 1) / max(1, config.warmup))
    down = max(0.0, min(1.0, (config.steps - step) / decay))
    return config.lr * up * (config.final + (1 - config.final) * down)


def ramp(progress: float) -> float:
    """How far the weights of the losses are from their first values (0) to their last (1)."""
    return min(1.0, progress / _RAMP)
