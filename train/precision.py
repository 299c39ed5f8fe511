"""Whether networks are trained in bfloat16: where the machine multiplies it itself."""

from __future__ import annotations

import torch
from fsqcodec.errors import ConfigError
from fsqcodec.nn.bf16 import has_bfloat16

CHOICES = ("auto", "bf16", "no")


def settle_precision(asked: str) -> str:
    """What Accelerate is told for a `mixed_precision` of the configuration.

    Args:
        asked: `auto`, `bf16` or `no`.

    Returns:
        `bf16` or `no`; for `auto` by what the GPU, or without one the processor, has instructions for.

    Raises:
        ConfigError: `asked` is something else.
    """
    if asked not in CHOICES:
        raise ConfigError(f"mixed_precision: {asked} is none of {', '.join(CHOICES)}")
    if asked != "auto":
        return asked
    return "bf16" if _machine_has_bfloat16() else "no"


def _machine_has_bfloat16() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if torch.accelerator.is_available():
        return True
    return has_bfloat16()
