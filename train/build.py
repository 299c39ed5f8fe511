"""From a recipe to a `Trainer`. `KINDS` is the only list of what can be trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration

from .audio.task import AudioTask
from .config.audio import AudioTrainConfig
from .config.base import RunConfig
from .config.load import read_config
from .config.prior import PriorConfig
from .config.visual import VisualTrainConfig
from .precision import settle_precision
from .prior_task import PriorTask
from .task import Notify, Task
from .trainer import Trainer
from .visual.task import VisualTask


@dataclass(frozen=True)
class Kind:
    """One kind of run."""

    config: type[RunConfig]
    task: Callable[[Any, torch.device, Notify], Task]
    """Takes such a configuration, the device, and what says something to people."""


KINDS = {
    "audio": Kind(AudioTrainConfig, AudioTask),
    "visual": Kind(VisualTrainConfig, VisualTask),
    "prior": Kind(PriorConfig, PriorTask),
}


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in a YAML file; see `config.load.read_config`.

    Raises:
        ConfigError: the file is missing, is not YAML, or has a key or a value that does not fit.
    """
    return read_config(path, {name: kind.config for name, kind in KINDS.items()}, overrides)


def build_trainer(config: RunConfig, notify: Notify = print) -> Trainer:
    """The trainer of a run, resumed where it stopped.

    Args:
        config: the run.
        notify: called with lines of text for people (main process only).

    Raises:
        ConfigError: a setting does not fit, or there are no data.
        ModelError: a model that the run starts from cannot be read.
    """
    config = replace(config, mixed_precision=settle_precision(config.mixed_precision))
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = Accelerator(
        # Else several processes without a GPU do not find each other.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=config.mixed_precision,
        # Items are already sharded by number: every process takes its rows of each global batch.
        dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=True),
        step_scheduler_with_optimizer=False,
    )
    torch.manual_seed(config.seed)
    kind = next(kind for kind in KINDS.values() if type(config) is kind.config)
    with accelerator.main_process_first():
        task = kind.task(config, accelerator.device, notify if accelerator.is_main_process else _silent)
    return Trainer(config, task, accelerator, notify)


def _silent(_: str) -> None:
    """Other processes than the first say nothing."""
