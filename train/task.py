"""What a kind of model brings to the `Trainer`: its networks, data and losses, and the file that comes of
them.

A new kind is a folder with a `Task`, its configuration, and one line in `build`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset
from torch.utils.tensorboard import SummaryWriter

Notify = Callable[[str], None]
"""Takes lines of text for people."""
Weigh = Callable[[tuple[float, float]], Tensor]
"""Value now, float32 (), of a weight that changes over the run; takes its first and its last value."""
Batch = dict[str, Tensor]
"""Tensors by name, items first."""


class Validator(Protocol):
    """Scores of a model on media that it does not train on."""

    def score(self, model: Any) -> dict[str, float]:
        """Named scores."""

    def write_samples(self, model: Any, writer: SummaryWriter, step: int) -> None:
        """Reconstructions to TensorBoard."""


class Task(Protocol):
    """What is trained on what; the `Trainer` does the rest.

    Networks are the bare ones. `loss` gets them wrapped, for several processes and for mixed precision.
    Methods with a body here are for the tasks that need another.
    """

    model: nn.Module
    """Its averaged weights are what is published."""
    auxiliary: dict[str, nn.Module]
    """Networks that are trained alongside, by name, without averaging."""
    data: Dataset[dict[str, Tensor]]
    """Item i depends on the seed and on i alone."""
    workers: int
    """Processes that load the data; 0 for none but the trainer's."""
    facts: dict[str, Any]
    """What the data are, for provenance."""
    origin: dict[str, Any] | None
    """What made the model that this run starts from."""
    unit: str
    """What is counted for throughput."""
    per_item: float
    """Units in an item."""

    def optimizers(self, dtype: torch.dtype, capturable: bool) -> list[Optimizer]:
        """Optimizers of all that is trained; the trainer sets their learning rates.

        Args:
            dtype: what they may compute products in.
            capturable: whether a step may become a part of a CUDA graph.
        """

    def begin(self, progress: float) -> None:
        """Called before every step with the share of the steps that are done."""
        return None

    def capturable(self, progress: float) -> bool:
        """Whether all steps from now on do the same with tensors of the same shapes, as a CUDA graph does."""
        return False

    def loss(
        self, model: Any, auxiliary: dict[str, Any], batch: Batch, weigh: Weigh, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss () of a batch, and terms () to show; called under autocast."""

    def validator(self) -> Validator | None:
        """Validation, if any is configured."""

    def publish(self, path: Path, model: Any, provenance: dict[str, Any], last: bool) -> None:
        """Write the averaged model to a file that `--model` takes.

        Args:
            path: of the file.
            model: the averaged weights.
            provenance: what made them.
            last: whether this process stops now, and more work is worth while.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs besides the states of networks and optimizers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite of `state_dict`."""
        return None
