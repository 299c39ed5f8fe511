"""Fine-tuning a model on somebody's own media: split, score, train, score again, save what got better."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fsqcodec.audio.model import AudioModel
from fsqcodec.checkpoints import audio_weights, find_model, read_metadata, save_model, token_hash
from fsqcodec.errors import ConfigError, ModelError
from fsqcodec.losses.reconstruction import ReconstructionLoss
from torch import Tensor

from .audio.task import restored_prior, rounded
from .audio.validation import AudioValidator
from .build import build_trainer
from .config.audio import AudioTrainConfig, DataConfig, LossConfig
from .config.base import OptimConfig, Source
from .config.prior import PriorConfig
from .data.cache import cached_samples
from .data.manifest import Item, list_media
from .task import Notify
from .trainer import Progress, Trainer

_PIECES, _PIECE_SECONDS = 16, 6.0
"""Of the held-out files, that scores are means of."""


@dataclass(frozen=True)
class Settings:
    """What `fsqcodec finetune` is asked for."""

    model: str
    """Shipped name or `.safetensors` file to start from."""
    media: list[str]
    """Files, folders or globs."""
    out: Path
    """The model to write."""
    full: bool = False
    """Encoder too: another meaning of tokens, and a prior fitted anew."""
    steps: int = 1500
    batch: int = 8
    lr: float = 3e-4
    share: float = 0.1
    """Share of the files that is held out."""
    seed: int = 0
    threads: int = 0
    mixed_precision: str = "auto"
    workers: int = 1
    keep_worse: bool = False


def split(files: list[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Training and held-out files, at least one each; a file's part depends on its name alone.

    Raises:
        ConfigError: fewer than two files.
    """
    if len(files) < 2:
        raise ConfigError(
            "fine-tuning holds one file out to validate with: give at least two files (cut a long one)"
        )
    ordered = sorted(files, key=lambda file: hashlib.sha256(file.name.encode()).digest())
    held = max(1, round(share * len(files)))
    return sorted(ordered[held:]), sorted(ordered[:held])


class Finetune:
    """One fine-tuning; its run lies in a folder beside the result, from which the same call resumes."""

    def __init__(self, settings: Settings, notify: Notify = print) -> None:
        self.settings = settings
        self.base = audio_weights(settings.model)
        if self.base.tables is None:
            raise ModelError(f"{settings.model}: has no frequency tables; take a finished model")
        files = sorted({file for given in settings.media for file in list_media(given)})
        self.files, self.held = split(files, settings.share)
        self.folder = settings.out.with_suffix(".run")
        self.trainer = build_trainer(self._config(), notify)
        self.notify = self.trainer.notify
        self.hours = float(self.trainer.task.facts["audio_hours"])

    def _data(self) -> DataConfig:
        return DataConfig(
            [Source(str(file)) for file in self.files],
            cache=str(self.folder / "cache"),
            workers=self.settings.workers,
        )

    def _loss(self) -> LossConfig:
        """A full tuning shares bits out as the model's own run did; decoders do better with the defaults."""
        if not self.settings.full:
            return LossConfig().settled()
        metadata = read_metadata(find_model(self.settings.model))
        made_by = metadata.get("train", {}).get("config", {}).get("loss", {})
        known = {f.name: tuple(made_by[f.name]) for f in fields(LossConfig) if f.name in made_by}
        loss = LossConfig(**{"rate": (2.0, 2.0), "rate_all": (0.6, 0.6)} | known).settled()
        return replace(loss, adversarial=(0.0, 0.0), features=(0.0, 0.0))

    def _config(self) -> AudioTrainConfig:
        s = self.settings
        return AudioTrainConfig(
            out=str(self.folder),
            data=self._data(),
            init=s.model,
            parts="all" if s.full else "decoder",
            seed=s.seed,
            loss=self._loss(),
            optim=OptimConfig(s.steps, s.batch, s.lr, warmup=100, decay=0.6, no_quantizer=0.0, ema=0.998),
            threads=s.threads,
            mixed_precision=s.mixed_precision,
        )

    def run(self, progress: Progress | None = None) -> dict[str, dict[str, float]]:
        """Train, and write the model; returns scores on the held-out files `before` and `after`.

        Raises:
            ModelError: the run was stopped, or the held-out files sound worse than before (mel distance) and
                `keep_worse` is off.
        """
        # A prior makes scores at bitrates those of real files; a full tuning trains its own.
        prior: Any = restored_prior(self.base.model, self.base) if self.base.prior else None
        validator = AudioValidator(self._pieces(), self.base.model.config, prior)
        before = self._score(validator, self.base.model)
        files = len(self.held) + len(self.files)
        self.notify(f"before: {_line(before)}  ({len(self.held)} of {files} files held out)")
        _finish(self.trainer, progress)
        model: AudioModel = self.trainer.averaged
        validator.prior = self.trainer.task.auxiliary.get("prior", prior)
        after = self._score(validator, model)
        self.notify(f"after:  {_line(after)}")
        if after["mel"] > before["mel"] and not self.settings.keep_worse:
            raise ModelError(
                f"{self.settings.out}: not written, the held-out files got worse (mel distance "
                f"{before['mel']:.4f} to {after['mel']:.4f}); more data or fewer steps may help, "
                "--keep-worse writes it all the same"
            )
        self._save(model, before, after, progress)
        return {"before": before, "after": after}

    def _pieces(self) -> list[Tensor]:
        """Pieces float32 (n,) of a few seconds, spread evenly over the held-out files."""
        config, pieces = self.base.model.config, []
        size = int(_PIECE_SECONDS * config.sample_rate)
        clips = [
            cached_samples(Item(file.name, file), config.sample_rate, self.folder / "cache")
            for file in self.held
        ]
        for clip in clips:
            count = max(1, min(_PIECES // len(clips), len(clip) // size))
            for start in np.linspace(0, max(0, len(clip) - size), count).astype(int):
                piece = torch.from_numpy(clip[start : start + size].astype(np.float32) / 32768)
                if len(piece) > config.sample_rate and piece.abs().max() > 0.01:
                    pieces.append(piece)
        if not pieces:
            raise ConfigError("the held-out files are silent or shorter than a second; give other files")
        return pieces

    @torch.no_grad()
    def _score(self, validator: AudioValidator, model: AudioModel) -> dict[str, float]:
        """Mel distance at all stages, and the validator's scores."""
        loss = ReconstructionLoss(model.config.sample_rate)
        model.eval()
        device = next(model.parameters()).device
        distances = [
            float(loss(validator.reconstruct(model, x, model.quantizer.stages)[None], x[None])["mel"])
            for x in validator.clips
        ]
        scores = {"mel": float(np.mean(distances))} | validator.score(model)
        model.to(device)
        return {key: round(value, 4) for key, value in scores.items()}

    def _save(
        self, model: AudioModel, before: dict[str, float], after: dict[str, float], progress: Progress | None
    ) -> None:
        s = self.settings
        metadata: dict[str, Any] = read_metadata(find_model(s.model))
        metadata["finetune"] = {
            "base": Path(s.model).stem,
            "base_hash": token_hash(self.base.model).hex(),
            "full": s.full,
            "files": [file.name for file in self.files],
            "held_out": [file.name for file in self.held],
            "hours": round(self.hours, 3),
            "steps": s.steps,
            "before": before,
            "after": after,
        }
        tuned, main = model.cpu(), self.trainer.main
        if main:
            s.out.parent.mkdir(parents=True, exist_ok=True)
        if not s.full:
            if main:
                save_model(s.out, tuned, metadata, self.base.tables, self.base.prior)
            return
        bare = self.folder / "bare.safetensors"
        if main:
            save_model(bare, rounded(tuned), metadata)
        self.trainer.accelerator.wait_for_everyone()
        self.notify("fitting the prior to the new tokens")
        fit = PriorConfig(
            out=str(self.folder / "prior"),
            prior_of=str(bare),
            data=self._data(),
            hours=min(4.0, 2 * self.hours),
            start=str(self.folder / "prior.safetensors"),
            steps=s.steps,
            batch=s.batch,
            seed=s.seed,
            threads=s.threads,
            mixed_precision=s.mixed_precision,
        )
        _finish(build_trainer(fit, self.notify), progress)
        if main:
            fitted = self.folder / "prior" / "model.safetensors"
            metadata = read_metadata(fitted)
            del metadata["prior"]["config"]  # it names the user's folders
            loaded = audio_weights(fitted)
            save_model(s.out, loaded.model, metadata, loaded.tables, loaded.prior)


def _finish(trainer: Trainer, progress: Progress | None) -> None:
    """Train to the last step.

    Raises:
        ModelError: somebody stopped it.
    """
    trainer.run(progress)
    if trainer.step < trainer.config.optim.steps:
        raise ModelError(f"stopped at step {trainer.step}; the same command goes on from there")


def _line(scores: dict[str, float]) -> str:
    return "  ".join(f"{key} {value:.3f}" for key, value in scores.items())
