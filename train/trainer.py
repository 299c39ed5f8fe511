"""The training loop, distributed by Accelerate: plain, `torchrun`, `accelerate launch`, CPU or GPU, one process or many.

A run is a folder: `last.pt` (everything that a resume needs), `model.safetensors` (the averaged weights, a
model that `fsqcodec --model` takes), the networks trained beside it, `log.csv` and TensorBoard files.
"""

from __future__ import annotations

import csv
import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from fsqcodec.checkpoints import find_model, read_metadata
from fsqcodec.errors import ConfigError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from .config.base import OptimConfig, TrainConfig, VisualTrainConfig
from .data.audio import Numbers
from .optim.cuda_graph import Recorded
from .optim.muon import Muon, hidden_matrices
from .precision import settle_precision

Weigh = Callable[[tuple[float, float]], Tensor]
"""Value of a setting that changes over the run, now: float32 ()."""


class Judge(Protocol):
    """Scores of a model on media that it does not train on."""

    def score(self, model: Any) -> dict[str, float]:
        """Named scores."""

    def write_samples(self, model: Any, writer: SummaryWriter, step: int) -> None:
        """Reconstructions to TensorBoard."""


class Task(Protocol):
    """What audio and pictures do differently: networks, data, loss, and the file that comes of it."""

    model: nn.Module
    """The codec's networks; their averaged weights are what is published."""
    beside: dict[str, nn.Module]
    """Networks that are trained alongside, by name: with their own optimizer state, without averaging."""
    data: Dataset[dict[str, Tensor]]
    """Item i depends on the seed and on i alone."""
    facts: dict[str, Any]
    """What the data are, for provenance."""
    unit: str
    """What is counted for throughput."""
    per_item: float
    """Units in an item."""

    def loss(
        self, model: Any, beside: dict[str, Any], batch: dict[str, Tensor], weigh: Weigh, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, and terms to show; called under autocast with the wrapped networks."""

    def begin(self, beside: dict[str, Any], progress: float) -> None:
        """Called before every step with the bare networks that are trained alongside."""

    def steady(self, progress: float) -> bool:
        """Whether every step from now on does the same with tensors of the same shapes, and can be recorded."""

    def judge(self) -> Judge | None:
        """Validation, if any is configured."""

    def publish(
        self, path: Path, model: Any, beside: dict[str, Any], provenance: dict[str, Any], last: bool
    ) -> None:
        """Write the averaged model to a file that `--model` takes."""


def learning_rate(step: int, config: OptimConfig) -> float:
    """Warmup-stable-decay (Hu et al. 2024): linear up, constant, then linear down to a fiftieth."""
    decay = max(1, round(config.steps * config.decay))
    up = min(1.0, (step + 1) / max(1, config.warmup))
    down = min(1.0, (config.steps - step) / decay)
    return config.lr * up * (0.02 + 0.98 * max(0.0, down))


class Trainer:
    """One run of training; `run` goes from the last checkpoint to the configured number of steps.

    Args:
        config: the run.
        notify: called with lines of text for people (main process only).
    """

    def __init__(
        self, config: TrainConfig | VisualTrainConfig, notify: Callable[[str], None] = print
    ) -> None:
        config = replace(config, mixed_precision=settle_precision(config.mixed_precision))
        if config.threads:
            torch.set_num_threads(config.threads)
        optim = config.optim
        # Crops are already sharded by number: every process takes its rows of each global batch.
        self.accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),  # else several processes without a GPU do not find each other
            mixed_precision=config.mixed_precision,
            dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=True),
            step_scheduler_with_optimizer=False,
        )
        self.config, self.main = config, self.accelerator.is_main_process
        self.notify: Callable[[str], None] = notify if self.main else lambda _: None
        self.out = Path(config.out)
        torch.manual_seed(config.seed)
        with self.accelerator.main_process_first():
            self.task = task_of(config, self.accelerator.device, self.notify)
        self.gpu = self.accelerator.device.type == "cuda"
        self.rate, self.share = torch.zeros(2, device=self.accelerator.device).unbind()
        """Learning rate, and how far changing weights are on their way: in tensors, for what is recorded."""
        self.model, *self.optimizers = self.accelerator.prepare(self.task.model, *self._optimizers())
        self.beside = {name: self.accelerator.prepare(net) for name, net in self.task.beside.items()}
        self.ema = AveragedModel(self._bare(), multi_avg_fn=_averager(optim.ema), use_buffers=False)
        self.step = self.skipped = 0
        self.seconds = 0.0
        """Seconds of machine time spent in this run, over all its resumptions."""
        self.before = read_metadata(find_model(config.init)).get("train") if config.init else None
        """What made the model that this run starts from."""
        if (self.out / "last.pt").exists():
            self._resume()
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = self.rate
        self._recorded = (Recorded(self._differentiate), Recorded(self._move))
        self._terms: list[str] = []
        """Names of what `_differentiate` returns."""

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for the hidden matrices of the codec's networks, AdamW for all else."""
        optim, parts = self.config.optim, [self.task.model, *self.task.beside.values()]
        hidden = hidden_matrices(self.task.model)
        own = {id(matrix) for matrix in hidden}
        rest = [p for part in parts for p in part.parameters() if p.requires_grad and id(p) not in own]
        groups = [
            {"params": [p for p in rest if p.dim() > 1], "weight_decay": optim.weight_decay},
            {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
        ]
        fast = torch.bfloat16 if self.config.mixed_precision == "bf16" else torch.float32
        return [
            torch.optim.AdamW(
                groups,
                lr=optim.lr,
                betas=optim.betas,
                fused=True,
                capturable=self.gpu,
            ),
            Muon(hidden, optim.lr, optim.momentum, optim.weight_decay, fast),
        ]

    def _bare(self) -> Any:
        return self.accelerator.unwrap_model(self.model)

    def _bare_beside(self) -> dict[str, Any]:
        return {name: self.accelerator.unwrap_model(net) for name, net in self.beside.items()}

    def _resume(self) -> None:
        state = torch.load(self.out / "last.pt", map_location="cpu", weights_only=True)
        if "optimizers" not in state:
            raise ConfigError(
                f"{self.out / 'last.pt'}: of an older version, which moved all weights by one optimizer; "
                f"go on with init={self.out / 'model.safetensors'} and another out"
            )
        self._bare().load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.ema.load_state_dict(state["ema"])
        for name, net in self._bare_beside().items():
            net.load_state_dict(state["beside"][name])
        self.step, self.skipped, self.seconds = state["step"], state["skipped"], state["seconds"]
        self.notify(f"resumed {self.out / 'last.pt'} at step {self.step}")

    def save(self, last: bool = False) -> None:
        """Write the checkpoint and the averaged model; both appear only when complete."""
        if not self.main:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        beside = self._bare_beside()
        state = {
            "model": self._bare().state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "beside": {name: net.state_dict() for name, net in beside.items()},
            "ema": self.ema.state_dict(), "step": self.step, "skipped": self.skipped, "seconds": self.seconds,
        }  # fmt: skip
        torch.save(state, self.out / "last.pt.part")
        (self.out / "last.pt.part").replace(self.out / "last.pt")
        for name, net in beside.items():
            save_file(net.state_dict(), self.out / f"{name}.safetensors")
        averaged = self.ema.module.eval()
        self.task.publish(self.out / "model.safetensors", averaged, beside, self.provenance(), last)

    def provenance(self) -> dict[str, Any]:
        """What made these weights: the run's configuration, steps, hours and data."""
        return {
            "config": {
                k: v for k, v in asdict(self.config).items() if k not in {"out", "validate", "threads"}
            },
            "steps": self.step,
            "machine_hours": round(self.seconds / 3600, 2),
            **self.task.facts,
            "processes": self.accelerator.num_processes,
            "skipped_steps": self.skipped,
            "before": self.before,
        }

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One optimizer step; a step whose gradient is not finite changes nothing but the count of them."""
        progress = self._progress
        self.rate.fill_(learning_rate(self.step, self.config.optim))
        self.share.fill_(min(1.0, progress / 0.7))
        self.task.begin(self._bare_beside(), progress)
        differentiate, move = (
            self._recorded if self._may_record(progress) else (self._differentiate, self._move)
        )
        names, values = self._terms, differentiate(batch)
        assert values is not None
        found = dict(zip(names, self.accelerator.reduce(values, "mean").tolist(), strict=True))
        if math.isfinite(sum(found[name] for name in names if name.startswith("gradient"))):
            move({})
            self.ema.update_parameters(self._bare())
        else:
            self.skipped += 1
        self.step += 1
        return found

    @property
    def _progress(self) -> float:
        """Share of the steps that are done."""
        return self.step / self.config.optim.steps

    def _may_record(self, progress: float) -> bool:
        alone = self.gpu and self.accelerator.num_processes == 1
        return alone and self.config.cuda_graphs and self.task.steady(progress)

    def _differentiate(self, batch: dict[str, Tensor]) -> Tensor:
        """Gradients of a batch, clipped; terms of the loss and norms of the gradients, float32 (n,), named by `_terms`."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        with self.accelerator.autocast():
            loss, terms = self.task.loss(self.model, self.beside, batch, self._weigh, self._progress)
        self.accelerator.backward(loss)
        parts = {"gradient": self.model} | {f"gradient_{name}": net for name, net in self.beside.items()}
        for name, part in parts.items():
            terms[name] = self.accelerator.clip_grad_norm_(part.parameters(), self.config.optim.clip)
        self._terms[:] = terms
        return torch.stack(
            [torch.as_tensor(term, dtype=torch.float32, device=loss.device) for term in terms.values()]
        ).detach()

    def _move(self, _: dict[str, Tensor]) -> None:
        """Apply the gradients."""
        for optimizer in self.optimizers:
            optimizer.step()

    def _weigh(self, ends: tuple[float, float]) -> Tensor:
        """A setting's first value at the first step, its last from 70 % of the steps on, linear in between."""
        return ends[0] + (ends[1] - ends[0]) * self.share

    def run(self, progress: Callable[[int, int, dict[str, float]], None] | None = None) -> None:
        """Train to the end of the configured steps; `progress(step, steps, values)` after every step."""
        config, optim = self.config, self.config.optim
        numbers = Numbers(self.step * optim.batch, optim.steps * optim.batch)
        loader = self.accelerator.prepare(
            DataLoader(
                self.task.data, optim.batch, sampler=numbers, num_workers=config.data.workers,
                persistent_workers=False, prefetch_factor=8 if config.data.workers else None,
                worker_init_fn=_prepare_worker, pin_memory=self.gpu,
            )
        )  # fmt: skip
        writer = SummaryWriter(str(self.out)) if self.main else None
        validation = self.task.judge() if self.main else None
        self.notify(f"{', '.join(f'{k} {v}' for k, v in self.task.facts.items())}, step {self.step}")
        sums: dict[str, float] = {}
        counted, mark, saved = 0, time.monotonic(), time.monotonic()
        self.model.train()
        stopping, threads = _StopSignal(), torch.get_num_threads()
        for batch in loader:
            values = self.train_step(batch)
            for key, value in values.items():
                sums[key] = sums.get(key, 0.0) + value
            counted += 1
            if progress:
                progress(self.step, optim.steps, values)
            last = self.step == optim.steps
            if self.step % config.log_every == 0 or last:
                now = time.monotonic()
                self.seconds += now - mark
                means = {key: value / counted for key, value in sums.items()}
                means[f"{self.task.unit}_per_second"] = (
                    counted * optim.batch * self.task.per_item / (now - mark)
                )
                self._log(writer, means)
                sums, counted, mark = {}, 0, now
            stop = self._any(stopping.asked)
            judge = validation if self.step % config.validate_every == 0 or last else None
            # Before a validation too: who stops the run during one may not wait for its end.
            if judge or stop or last or time.monotonic() - saved > 60 * config.save_minutes:
                self.save(last or stop)
                saved = time.monotonic()
            if stop and not last:
                self.notify(f"stopped at step {self.step}; the same command resumes")
                break
            if judge:
                scores = judge.score(self.ema.module.eval())
                self.notify(f"step {self.step} | " + " | ".join(f"{k} {v:.3f}" for k, v in scores.items()))
                if writer:
                    for key, value in scores.items():
                        writer.add_scalar(f"validation/{key}", value, self.step)
                    judge.write_samples(self.ema.module, writer, self.step)
                # Measures' libraries change it, and threads that wait for each other cost more than they help.
                torch.set_num_threads(threads)
                self.model.train()
        if writer:
            writer.close()

    def _any(self, asked: bool) -> bool:
        """Whether one process was asked to stop: then all do, after the same step, or the others would wait for it."""
        count: Tensor = self.accelerator.reduce(
            torch.tensor(float(asked), device=self.accelerator.device), "sum"
        )
        return bool(count > 0)

    def _log(self, writer: SummaryWriter | None, means: dict[str, float]) -> None:
        if not writer:
            return
        row = {"step": self.step, "hours": round(self.seconds / 3600, 4), "lr": learning_rate(self.step, self.config.optim),
               "skipped": self.skipped} | {k: round(v, 5) for k, v in means.items()}  # fmt: skip
        append_row(self.out / "log.csv", row)
        for key, value in means.items():
            writer.add_scalar(f"train/{key}", value, self.step)


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a CSV file; one with other columns makes way, as `…-to-STEP.csv`."""
    if path.exists() and path.read_text().partition("\n")[0] != ",".join(row):
        path.replace(path.with_stem(f"{path.stem}-to-{row['step']}"))
    new = not path.exists()
    with path.open("a", newline="") as out:
        table = csv.DictWriter(out, list(row))
        if new:
            table.writeheader()
        table.writerow(row)


def task_of(
    config: TrainConfig | VisualTrainConfig, device: torch.device, notify: Callable[[str], None]
) -> Task:
    """The task that a configuration describes."""
    from .audio.task import AudioTask
    from .visual.task import VisualTask

    kind: Any = AudioTask if isinstance(config, TrainConfig) else VisualTask
    task: Task = kind(config, device, notify)
    return task


class _StopSignal:
    """Turns SIGTERM and the first Ctrl-C into a request to save and stop.

    SIGTERM may come twice, from a scheduler that stops all processes and from a launcher that passes it on; only a second Ctrl-C
    means that nobody wants to wait.
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
