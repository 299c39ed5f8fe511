"""Checkpoints: everything that a resume needs, in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fsqcodec.errors import ConfigError

State = dict[str, Any]


@dataclass
class Checkpoint:
    """State of a run after a step."""

    model: State
    auxiliary: dict[str, State]
    optimizers: list[State]
    ema: State | None
    """Of the average of the model's weights; None where none is kept."""
    task: State
    step: int
    skipped: int
    """Steps whose gradient was not finite."""
    seconds: float
    """Machine time that the run took so far."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file appears only when complete."""
    part = path.with_name(f"{path.name}.part")
    torch.save(vars(checkpoint), part)
    part.replace(path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, on the CPU; also one from before priors were fitted by the same trainer.

    Raises:
        ConfigError: it is too old.
    """
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    if "network" in state:
        state = {
            "model": state["network"],
            "auxiliary": {},
            "optimizers": [state["optimizer"]],
            "ema": None,
            "task": {"scales": state["scales"]},
            "step": state["step"],
            "skipped": 0,
            "seconds": state["seconds"],
        }
    if "optimizers" not in state:
        raise ConfigError(
            f"{path}: of an older version, which moved all weights by one optimizer; "
            f"go on with init={path.with_name('model.safetensors')} and another out"
        )
    if "beside" in state:
        state = {"auxiliary": state.pop("beside"), "task": {}} | state
    return Checkpoint(**state)
