"""The training loop, distributed by Accelerate: plain, `torchrun`, `accelerate launch`, CPU or GPU, one
process or many.

A run is a folder: `last.pt` (everything that a resume needs), `model.safetensors` (the averaged weights, a
model that `fsqcodec --model` takes), the auxiliary networks, `log.csv` and TensorBoard files.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from .checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from .config.base import RunConfig
from .log import RunLog
from .optim.cuda_graph import CudaGraph
from .schedule import learning_rate, ramp
from .task import Batch, Notify, Task, Validator

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after every step with its number, the number of all, and what it measured."""
_NOT_PROVENANCE = frozenset({"out", "validate", "threads"})
"""Settings that leave weights as they are."""


class Trainer:
    """One run of training; `run` goes from the last checkpoint to the configured number of steps.

    `build.build_trainer` makes one for a configuration.

    Args:
        config: the run.
        task: what is trained, on the accelerator's device or on the CPU.
        accelerator: what runs it; it splits the batches of the data.
        notify: called with lines of text for people (main process only).

    Raises:
        ConfigError: the run's folder holds a checkpoint that is too old.
    """

    def __init__(
        self, config: RunConfig, task: Task, accelerator: Accelerator, notify: Notify = print
    ) -> None:
        self.config, self.task, self.accelerator = config, task, accelerator
        self.main = accelerator.is_main_process
        self.notify: Notify = notify if self.main else lambda _: None
        self.out = Path(config.out)
        self.gpu = accelerator.device.type == "cuda"
        self.rate, self.share = torch.zeros(2, device=accelerator.device).unbind()
        """Learning rate, and how far changing weights are on their way: in tensors, for CUDA graphs."""
        dtype = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
        self.model, *self.optimizers = accelerator.prepare(task.model, *task.optimizers(dtype, self.gpu))
        self.auxiliary = {name: accelerator.prepare(network) for name, network in task.auxiliary.items()}
        self.ema = (
            AveragedModel(task.model, multi_avg_fn=_averager(config.optim.ema), use_buffers=False)
            if config.optim.ema
            else None
        )
        self.step = self.skipped = 0
        self.seconds = 0.0
        """Machine time of this run, over all its resumptions."""
        if (self.out / "last.pt").exists():
            self._resume()
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = self.rate
        self._captured = CudaGraph(self._gradients), CudaGraph(self._optimizer_step)

    @property
    def averaged(self) -> Any:
        """The model whose weights are the average; the trained one where none is kept."""
        return self.ema.module if self.ema else self.task.model

    def _resume(self) -> None:
        state = read_checkpoint(self.out / "last.pt")
        self.task.model.load_state_dict(state.model)
        for name, network in self.task.auxiliary.items():
            network.load_state_dict(state.auxiliary[name])
        for optimizer, saved in zip(self.optimizers, state.optimizers, strict=True):
            optimizer.load_state_dict(saved)
        if self.ema and state.ema:
            self.ema.load_state_dict(state.ema)
        self.task.load_state_dict(state.task)
        self.step, self.skipped, self.seconds = state.step, state.skipped, state.seconds
        self.notify(f"resumed {self.out / 'last.pt'} at step {self.step}")

    def save(self, last: bool = False) -> None:
        """Write the checkpoint and the averaged model; both appear only when complete."""
        if not self.main:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        state = Checkpoint(
            self.task.model.state_dict(),
            {name: network.state_dict() for name, network in self.task.auxiliary.items()},
            [optimizer.state_dict() for optimizer in self.optimizers],
            self.ema.state_dict() if self.ema else None,
            self.task.state_dict(),
            self.step,
            self.skipped,
            self.seconds,
        )
        write_checkpoint(self.out / "last.pt", state)
        for name, weights in state.auxiliary.items():
            save_file(weights, self.out / f"{name}.safetensors")
        self.task.publish(self.out / "model.safetensors", self.averaged.eval(), self.provenance(), last)
        self.model.train()

    def provenance(self) -> dict[str, Any]:
        """What made these weights: the run's configuration, steps, hours and data."""
        return {
            "config": {
                key: value for key, value in asdict(self.config).items() if key not in _NOT_PROVENANCE
            },
            "steps": self.step,
            "machine_hours": round(self.seconds / 3600, 2),
            **self.task.facts,
            "processes": self.accelerator.num_processes,
            "skipped_steps": self.skipped,
            "before": self.task.origin,
        }

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One optimizer step; a step whose gradient is not finite changes nothing but the count of them.

        Args:
            batch: this process's items.

        Returns:
            terms of the loss and norms of the gradients, the means of all processes.
        """
        progress = self._progress
        self.rate.fill_(learning_rate(self.step, self.config.optim))
        self.share.fill_(ramp(progress))
        self.task.begin(progress)
        alone = self.gpu and self.accelerator.num_processes == 1
        gradients, optimizer_step = (
            self._captured
            if alone and self.task.capturable(progress)
            else (self._gradients, self._optimizer_step)
        )
        terms = gradients(batch)
        means = self.accelerator.reduce(torch.stack(list(terms.values())), "mean").tolist()
        values = dict(zip(terms, means, strict=True))
        if math.isfinite(sum(value for name, value in values.items() if name.startswith("gradient"))):
            optimizer_step({})
            if self.ema:
                self.ema.update_parameters(self.task.model)
        else:
            self.skipped += 1
        self.step += 1
        return values

    @property
    def _progress(self) -> float:
        """Share of the steps that are done."""
        return self.step / self.config.optim.steps

    def _gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Gradients of a batch, clipped; terms of the loss and norms of the gradients, float32 () each."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        with self.accelerator.autocast():
            loss, terms = self.task.loss(self.model, self.auxiliary, batch, self._weigh, self._progress)
        self.accelerator.backward(loss)
        parts = {"gradient": self.model} | {f"gradient_{name}": net for name, net in self.auxiliary.items()}
        norms = {
            name: self.accelerator.clip_grad_norm_(part.parameters(), self.config.optim.clip)
            for name, part in parts.items()
        }
        return {
            name: torch.as_tensor(value, dtype=torch.float32, device=loss.device).detach()
            for name, value in {**terms, **norms}.items()
        }

    def _optimizer_step(self, _: Batch) -> dict[str, Tensor]:
        """Apply the gradients."""
        for optimizer in self.optimizers:
            optimizer.step()
        return {}

    def _weigh(self, ends: tuple[float, float]) -> Tensor:
        return ends[0] + (ends[1] - ends[0]) * self.share

    def run(self, progress: Progress | None = None) -> None:
        """Train to the end of the configured steps, or until SIGTERM or Ctrl-C; the same run resumes then."""
        config, optim = self.config, self.config.optim
        loader = self.accelerator.prepare(self._loader())
        log = RunLog(self.out) if self.main else None
        validator = self.task.validator() if self.main else None
        self.notify(f"{', '.join(f'{k} {v}' for k, v in self.task.facts.items())}, step {self.step}")
        sums: dict[str, float] = {}
        counted, mark, saved = 0, time.monotonic(), time.monotonic()
        self.model.train()
        stopping = _StopSignal()
        for batch in loader:
            values = self.train_step(batch)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value
            counted += 1
            if progress:
                progress(self.step, optim.steps, values)
            last = self.step == optim.steps
            if self.step % config.log_every == 0 or last:
                now = time.monotonic()
                self.seconds += now - mark
                means = {name: value / counted for name, value in sums.items()}
                speed = counted * optim.batch * self.task.per_item / (now - mark)
                if log:
                    log.train(self._row(), means | {f"{self.task.unit}_per_second": speed})
                sums, counted, mark = {}, 0, now
            stop = self._any(stopping.asked)
            due = validator is not None and (last or self.step % config.validate_every == 0)
            # Before a validation too: who stops the run during one may not wait for its end.
            if due or stop or last or time.monotonic() - saved > 60 * config.save_minutes:
                self.save(last or stop)
                saved = time.monotonic()
            if stop and not last:
                self.notify(f"stopped at step {self.step}; the same command resumes")
                break
            if due and validator and log:
                self._validate(validator, log)
        if log:
            log.close()

    def _loader(self) -> DataLoader[dict[str, Tensor]]:
        """The batches from this step on."""
        batch, workers = self.config.optim.batch, self.task.workers
        return DataLoader(
            self.task.data,
            batch,
            sampler=range(self.step * batch, self.config.optim.steps * batch),
            num_workers=workers,
            prefetch_factor=8 if workers else None,
            worker_init_fn=_prepare_worker,
            pin_memory=self.gpu,
        )

    def _validate(self, validator: Validator, log: RunLog) -> None:
        threads = torch.get_num_threads()
        scores = validator.score(self.averaged.eval())
        self.notify(f"step {self.step} | " + " | ".join(f"{k} {v:.3f}" for k, v in scores.items()))
        log.validation(self.step, scores)
        validator.write_samples(self.averaged, log.writer, self.step)
        # Measures' libraries change it, and threads that wait for each other cost more than they help.
        torch.set_num_threads(threads)
        self.model.train()

    def _any(self, asked: bool) -> bool:
        """Whether one process was asked to stop: then all do, after the same step, or would wait for it."""
        count: Tensor = self.accelerator.reduce(
            torch.tensor(float(asked), device=self.accelerator.device), "sum"
        )
        return bool(count > 0)

    def _row(self) -> dict[str, float]:
        """What every row of the log begins with."""
        return {
            "step": self.step,
            "hours": round(self.seconds / 3600, 4),
            "lr": learning_rate(self.step, self.config.optim),
            "skipped": self.skipped,
        }


class _StopSignal:
    """Turns SIGTERM and the first Ctrl-C into a request to save and stop.

    SIGTERM may come twice, from a scheduler that stops all processes and from a launcher that passes it on;
    only a second Ctrl-C means that nobody wants to wait.
    """

    def __init__(self) -> None:
        self.asked = False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._ask)

    def _ask(self, number: int, _: Any) -> None:
        self.asked = True
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)


def _averager(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average whose first steps do not remember the random weights for long."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - kept)

    return update


def _prepare_worker(_: int) -> None:
    """Loaders take one thread each, and leave it to the main process to answer signals to the group."""
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
