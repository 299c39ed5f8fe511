"""Trains the music model: python -m fsqcodec.train.music.learn CONFIG.yaml out=RUN data=A,B [key=value ...].

A run is a folder: `last.pt`, from which the same command goes on, and `log.csv`. Bits of coefficients and of side
information, plus what errors of the band levels are worth in bits; steps and noise by the rule.
"""

from __future__ import annotations

import csv
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import yaml
from fsqcodec.music.bands import Bands
from fsqcodec.music.model import MusicConfig, MusicModel
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..muon import Muon, hidden_matrices
from .coding import beta, code, level_error
from .crops import Crop, Crops
from .prior_network import PriorNetwork

_TERMS = ("loss", "coefficients", "side", "levels", "scales")


@dataclass
class LearnConfig:
    """One run."""

    out: str
    data: str
    """Folders of `prepare`, joined by commas."""
    steps: int = 20000
    batch: int = 12
    frames: int = 66
    lr: float = 1e-3
    warmup: int = 100
    decay: float = 0.3
    ema: float = 0.998
    seed: int = 0
    knobs_low: float = -27.0
    knobs_high: float = 6.0
    level_worth: float = 0.06
    """Bits that a squared decibel of level error is worth, at -9 dB."""
    share: float = 0.15
    """Of the coefficients whose bits are counted."""
    quantize_from: float = 0.8
    width: int = 256
    blocks: int = 3
    threads: int = 2
    log_every: int = 20
    save_minutes: float = 3.0


def load_config(path: Path, overrides: list[str]) -> LearnConfig:
    """A YAML file; key=value win over it."""
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for override in overrides:
        key, _, text = override.partition("=")
        values[key] = yaml.safe_load(text) if key not in ("out", "data") else text
    known = {f.name: f.type for f in fields(LearnConfig)}
    if unknown := set(values) - set(known):
        raise ValueError(f"{path}: unknown setting {sorted(unknown)[0]!r}")
    return LearnConfig(**values)


class Learner:
    """Networks, optimizers and their state on disk."""

    def __init__(self, config: LearnConfig) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out = config, Path(config.out)
        self.model = MusicModel(MusicConfig(width=config.width, blocks=config.blocks))
        self.prior = PriorNetwork(self.model.config)
        self.both = nn.ModuleDict({"model": self.model, "prior": self.prior})
        self.average = AveragedModel(self.both, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        self.bands = Bands()
        hidden = hidden_matrices(self.model)
        own = set(map(id, hidden))
        rest = [p for p in self.both.parameters() if id(p) not in own]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
            Muon(hidden, config.lr, 0.95, 0.01, torch.bfloat16),
        ]
        self.step = 0
        if (self.out / "last.pt").exists():
            state = torch.load(self.out / "last.pt", map_location="cpu", weights_only=True)
            self.both.load_state_dict(state["both"])
            self.average.load_state_dict(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step = state["step"]
            print(f"resumed at step {self.step}", flush=True)

    def save(self) -> None:
        """Write the checkpoint; it appears only when complete."""
        state = {
            "both": self.both.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "shape": {"width": self.config.width, "blocks": self.config.blocks},
        }
        torch.save(state, self.out / "last.pt.part")
        (self.out / "last.pt.part").replace(self.out / "last.pt")

    def loss(self, crop: Crop, knob: Tensor) -> dict[str, Tensor]:
        """Terms of the loss, all in bits a frame; `loss` is the sum that is minimised, over 100."""
        config = self.config
        with torch.no_grad():
            types, coefficients = crop.types, crop.coefficients
            levels = self.bands.levels(coefficients, types[..., None])
        coded = code(
            self.model, self.prior, self.bands, coefficients, levels, types, knob, config.share, fast=True
        )
        off = level_error(coded.side, levels, coded.steps, crop.audible)
        worth = beta(knob, config.level_worth)[:, None] * (1 + 0.5 * types)
        side = coded.side_bits.mean()
        total = (
            coded.coefficient_bits + coded.side_pressure.mean() + (worth * off).mean() + coded.scale_error / 2
        )
        return {
            "loss": total / 100 + side / 100,
            "coefficients": coded.coefficient_bits,
            "side": side,
            "levels": off.mean(),
            "scales": coded.scale_error,
        }

    def train_step(self, crop: Crop) -> Tensor:
        """One step of the optimizers; the terms of the loss."""
        config = self.config
        rng = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        reach = config.knobs_high - config.knobs_low
        knob = config.knobs_low + reach * torch.rand(config.batch, generator=rng)
        if self.step >= config.quantize_from * config.steps and not self.prior.quantized:
            self.prior.quantize()
        down = (config.steps - self.step) / max(1, round(config.steps * config.decay))
        rate = (
            config.lr * min(1.0, (self.step + 1) / config.warmup) * (0.02 + 0.98 * max(0.0, min(1.0, down)))
        )
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate
        terms = self.loss(crop, knob)
        terms["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.both.parameters(), 1.0)
        if math.isfinite(float(norm)):
            for optimizer in self.optimizers:
                optimizer.step()
            self.average.update_parameters(self.both)
        self.step += 1
        return torch.stack([terms[name].detach() for name in _TERMS] + [norm])


def main() -> None:
    """Train to the end."""
    config = load_config(Path(sys.argv[1]), sys.argv[2:])
    torch.set_num_threads(config.threads)
    learner = Learner(config)
    learner.out.mkdir(parents=True, exist_ok=True)
    crops = Crops([Path(folder) for folder in config.data.split(",")], config.seed)
    sums, mark, saved = torch.zeros(len(_TERMS) + 1), time.monotonic(), time.monotonic()
    with ThreadPoolExecutor(1) as pool, (learner.out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        log.writerow(("step", *_TERMS, "gradient", "seconds_of_sound_per_second"))
        ahead = pool.submit(crops.batch, learner.step, config.batch, config.frames)
        while learner.step < config.steps:
            crop = ahead.result()
            ahead = pool.submit(crops.batch, learner.step + 1, config.batch, config.frames)
            sums += learner.train_step(crop)
            if learner.step % config.log_every == 0:
                now = time.monotonic()
                speed = config.log_every * config.batch * config.frames * 0.02 / (now - mark)
                log.writerow(
                    (learner.step, *(f"{v:.4g}" for v in (sums / config.log_every).tolist()), f"{speed:.1f}")
                )
                file.flush()
                sums, mark = torch.zeros_like(sums), now
            if time.monotonic() - saved > 60 * config.save_minutes:
                learner.save()
                saved = time.monotonic()
        learner.save()


if __name__ == "__main__":
    main()
