"""The training loop, distributed by Accelerate: plain, `accelerate launch`, CPU or GPU, one process or many.

A run is a folder: `last.pt` (everything that a resume needs), `model.safetensors` (the averaged weights, a
model that `fsqcodec --model` takes), `log.csv` and TensorBoard files.
"""

from __future__ import annotations

import copy
import csv
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
from accelerate.utils import DataLoaderConfiguration
from fsqcodec.audio.model import AudioConfig, AudioModel
from fsqcodec.checkpoints import find_model, load_model, read_metadata, save_model
from fsqcodec.codec import STAGES_PER_LAYER
from fsqcodec.errors import ConfigError
from fsqcodec.tables import StaticTables
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from .config import OptimConfig, TrainConfig
from .data import Crops, Numbers
from .losses import ReconstructionLoss
from .prior import PriorNetwork, code_lengths, rate
from .validation import Validation


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

    def __init__(self, config: TrainConfig, notify: Callable[[str], None] = print) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        optim = config.optim
        # Crops are already sharded by number: every process takes its rows of each global batch.
        self.accelerator = Accelerator(
            mixed_precision=config.mixed_precision,
            dataloader_config=DataLoaderConfiguration(split_batches=True),
            step_scheduler_with_optimizer=False,
        )
        self.config, self.main = config, self.accelerator.is_main_process
        self.notify: Callable[[str], None] = notify if self.main else lambda _: None
        self.out = Path(config.out)
        torch.manual_seed(config.seed)
        model = _starting_model(config)
        if config.parts not in ("all", "decoder"):
            raise ConfigError(f"parts: {config.parts!r} is neither all nor decoder")
        self.model_config = model.config
        frame, lag = self.model_config.frame, self.model_config.lag
        samples = (
            math.ceil(config.data.crop * self.model_config.sample_rate / frame) * frame
            + math.ceil(lag / frame) * frame
        )
        with self.accelerator.main_process_first():
            self.crops = Crops(
                config.data, self.model_config.sample_rate, samples, model.quantizer.stages,
                optim.dropout, config.seed, self.notify,
            )  # fmt: skip
        self.loss = ReconstructionLoss(self.model_config.sample_rate).to(self.accelerator.device)
        prior = PriorNetwork(model.quantizer, STAGES_PER_LAYER) if any(config.loss.rate) else None
        model.encoder.requires_grad_(config.parts == "all")
        trained = [p for p in model.parameters() if p.requires_grad]
        trained += prior.parameters() if prior else ()
        decay = [p for p in trained if p.dim() > 1]
        plain = [p for p in trained if p.dim() <= 1]
        groups = [
            {"params": decay, "weight_decay": optim.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.prior: Any = self.accelerator.prepare(prior) if prior else None
        self.ema = AveragedModel(self._bare(), multi_avg_fn=_averager(optim.ema), use_buffers=False)
        self.step = self.skipped = 0
        self.seconds = 0.0
        """Seconds of machine time spent in this run, over all its resumptions."""
        self.before = read_metadata(find_model(config.init)).get("train") if config.init else None
        """What made the model that this run starts from."""
        if (self.out / "last.pt").exists():
            self._resume()

    def _bare(self) -> AudioModel:
        model: AudioModel = self.accelerator.unwrap_model(self.model)
        return model

    def _resume(self) -> None:
        state = torch.load(self.out / "last.pt", map_location=self.accelerator.device, weights_only=True)
        self._bare().load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        if self.prior and state.get("prior"):
            self.accelerator.unwrap_model(self.prior).load_state_dict(state["prior"])
        self.step, self.skipped, self.seconds = state["step"], state["skipped"], state["seconds"]
        self.notify(f"resumed {self.out / 'last.pt'} at step {self.step}")

    def save(self, last: bool = False) -> None:
        """Write the checkpoint and the averaged model; both appear only when complete."""
        if not self.main:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self._bare().state_dict(), "optimizer": self.optimizer.state_dict(),
            "prior": self.prior and self.accelerator.unwrap_model(self.prior).state_dict(),
            "ema": self.ema.state_dict(), "step": self.step, "skipped": self.skipped, "seconds": self.seconds,
        }  # fmt: skip
        torch.save(state, self.out / "last.pt.part")
        (self.out / "last.pt.part").replace(self.out / "last.pt")
        if self.prior:
            weights = self.accelerator.unwrap_model(self.prior).state_dict()
            save_file(weights, self.out / "prior.safetensors")
        averaged: AudioModel = self.ema.module
        tables = self.estimate_tables(averaged, 2000 if last else 200)
        save_model(self.out / "model.safetensors", averaged, {"train": self.provenance()}, tables)

    @torch.no_grad()
    def estimate_tables(self, model: AudioModel, crops: int) -> StaticTables:
        """Frequency tables from the tokens of random training crops."""
        model.eval()
        source = copy.copy(self.crops)
        source.seed = self.config.seed + 1
        device = self.accelerator.device
        tokens = [
            model.quantizer.encode(model.encoder(source[i]["audio"][None].to(device)))[0].cpu()
            for i in range(crops)
        ]
        return StaticTables.estimate(torch.cat(tokens), copy.deepcopy(model.quantizer).cpu())

    def provenance(self) -> dict[str, Any]:
        """What made these weights: the run's configuration, steps, hours and data."""
        return {
            "config": {
                k: v for k, v in asdict(self.config).items() if k not in {"out", "validate", "threads"}
            },
            "steps": self.step,
            "machine_hours": round(self.seconds / 3600, 2),
            "audio_hours": round(self.crops.seconds / 3600, 2),
            "processes": self.accelerator.num_processes,
            "skipped_steps": self.skipped,
            "before": self.before,
        }

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One optimizer step; a step whose gradient is not finite changes nothing but the count of them."""
        optim, progress = self.config.optim, self.step / self.config.optim.steps
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, optim)
        with self.accelerator.autocast():
            y, tokens, z = self.model(
                batch["audio"], batch["stages"], quantize=progress >= optim.no_quantizer
            )
            fit, pressure = self._rate(tokens, z, batch["stages"]) if self.prior else (0.0, 0.0)
        items = self.loss(y.float(), batch["audio"][:, : y.shape[1]])
        terms = {name: item.mean() for name, item in items.items()}
        loss = sum(self._weight(name, progress) * term for name, term in terms.items())
        assert isinstance(loss, Tensor)
        loss = loss + self._weight("rate", progress) * pressure
        self.accelerator.backward(loss + fit)
        norms = [
            float(self.accelerator.clip_grad_norm_(part.parameters(), optim.clip) or 0.0)
            for part in (self.model, self.prior)
            if part
        ]
        if math.isfinite(sum(norms)):
            self.optimizer.step()
            self.ema.update_parameters(self._bare())
        else:
            self.skipped += 1
        self.optimizer.zero_grad()
        self.step += 1
        shown = {"loss": loss, **terms} | ({"rate": fit} if isinstance(fit, Tensor) else {})
        values = self.accelerator.reduce(torch.stack([value.detach() for value in shown.values()]), "mean")
        return dict(zip(shown, values.tolist(), strict=True)) | {"gradient": norms[0]}

    def _rate(self, tokens: Tensor, z: Tensor, stages: Tensor) -> tuple[Tensor, Tensor]:
        """Mean bits a digit of the stages that each item keeps: the prior's loss, and the encoder's."""
        quantizer = self._bare().quantizer
        digits = quantizer.stage_digits(tokens)
        bits, pressure = rate(code_lengths(self.prior(digits)), digits, quantizer.positions(z))
        kept = torch.arange(quantizer.stages, device=stages.device) < stages[:, None]
        return bits.mean(), (pressure * kept[:, None, :, None]).mean()

    def _weight(self, name: str, progress: float) -> float:
        first, last = getattr(self.config.loss, name)
        return float(first + (last - first) * min(1.0, progress / 0.7))

    def run(self, progress: Callable[[int, int, dict[str, float]], None] | None = None) -> None:
        """Train to the end of the configured steps; `progress(step, steps, values)` after every step."""
        config, optim = self.config, self.config.optim
        numbers = Numbers(self.step * optim.batch, optim.steps * optim.batch)
        loader = self.accelerator.prepare(
            DataLoader(
                self.crops, optim.batch, sampler=numbers, num_workers=config.data.workers,
                persistent_workers=False, prefetch_factor=8 if config.data.workers else None,
                worker_init_fn=_prepare_worker,
            )
        )  # fmt: skip
        writer = SummaryWriter(str(self.out)) if self.main else None
        validation = (
            Validation.of_media(config.validate, self.model_config) if config.validate and self.main else None
        )
        self.notify(
            f"{self.crops.seconds / 3600:.2f} h of audio, {len(self.crops.clips)} files, step {self.step}"
        )
        sums: dict[str, float] = {}
        counted, mark, saved = 0, time.monotonic(), time.monotonic()
        self.model.train()
        stopping = _StopSignal()
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
                means["audio_per_second"] = (
                    counted * optim.batch * self.crops.samples / self.model_config.sample_rate / (now - mark)
                )
                self._log(writer, means)
                sums, counted, mark = {}, 0, now
            if validation and (self.step % config.validate_every == 0 or last):
                scores = validation.score(self.ema.module)
                self.notify(f"step {self.step} | " + " | ".join(f"{k} {v:.3f}" for k, v in scores.items()))
                if writer:
                    for key, value in scores.items():
                        writer.add_scalar(f"validation/{key}", value, self.step)
                    validation.write_samples(self.ema.module, writer, self.step)
                self.model.train()
            if time.monotonic() - saved > 60 * config.save_minutes or last or stopping.asked:
                self.save(last or stopping.asked)
                saved = time.monotonic()
            if stopping.asked:
                self.notify(f"stopped at step {self.step}; the same command resumes")
                break
        if writer:
            writer.close()

    def _log(self, writer: SummaryWriter | None, means: dict[str, float]) -> None:
        if not writer:
            return
        row = {"step": self.step, "hours": round(self.seconds / 3600, 4), "lr": learning_rate(self.step, self.config.optim),
               "skipped": self.skipped} | {k: round(v, 5) for k, v in means.items()}  # fmt: skip
        path = self.out / "log.csv"
        if path.exists() and path.read_text().partition("\n")[0] != ",".join(row):
            path.replace(self.out / f"log-to-{self.step}.csv")  # another set of terms from here on
        new = not path.exists()
        with path.open("a", newline="") as out:
            table = csv.DictWriter(out, list(row))
            if new:
                table.writeheader()
            table.writerow(row)
        for key, value in means.items():
            writer.add_scalar(f"train/{key}", value, self.step)


def _starting_model(config: TrainConfig) -> AudioModel:
    """Random weights, or those of `config.init` wherever the settings of `config.model` keep their shape."""
    if not config.init:
        return AudioModel(AudioConfig.from_dict(config.model))
    donor = load_model(config.init).model
    model = AudioModel(AudioConfig.from_dict({**donor.config.to_dict(), **config.model}))
    own = model.state_dict()
    fitting = {k: v for k, v in donor.state_dict().items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    return model


class _StopSignal:
    """Turns SIGTERM and the first Ctrl-C into a request to save and stop."""

    def __init__(self) -> None:
        self.asked = False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._ask)

    def _ask(self, number: int, _: Any) -> None:
        self.asked = True
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
