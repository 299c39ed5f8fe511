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
from fsqcodec.music.bands import CODED, EDGES, SLOTS, Bands
from fsqcodec.music.model import MusicConfig, MusicModel, Side
from fsqcodec.music.prior import ROWS
from fsqcodec.music.reconstruct import dequantize
from fsqcodec.music.transform import FRAME, LappedTransform
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..optim.muon import Muon, hidden_matrices
from .coding import LEAST_SCALE, Coded, balance, beta, code, level_error
from .crops import Crop, Crops
from .hearing import Hearing
from .prior_network import UNITS, PriorNetwork
from .slopes import laplace_slopes

_PRICES = 12
_DECIBELS = 20 * math.log10(2)
"""Of an octave."""
_TERMS = ("loss", "coefficients", "side", "levels", "scales", "dissimilarity", "pull", "steps", "noise")


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
    hearing: bool = False
    """Learn steps and noise too, by what an ear would miss (`hearing`), at the price of bits that makes the knob's step the best."""
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
        self.bands, self.transform, self.hearing = Bands(), LappedTransform("vorbis"), Hearing()
        self.bit_slopes, self.error_slopes = laplace_slopes()
        reach = torch.linspace(config.knobs_low, config.knobs_high, _PRICES)
        self.prices = -4.6 + 0.1 * (reach + 6)
        """Decimal logarithms of the dissimilarity that a bit a frame is worth, by knob."""
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
            for optimizer, saved in zip(self.optimizers, state.get("optimizers", ()), strict=False):
                optimizer.load_state_dict(saved)
            self.step = state["step"]
            self.prices = state.get("prices", self.prices)
            print(f"resumed at step {self.step}", flush=True)

    def save(self) -> None:
        """Write the checkpoint; it appears only when complete."""
        state = {
            "both": self.both.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "prices": self.prices,
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
        total = (coded.coefficient_bits + coded.side_pressure + worth * off).mean(1) + coded.scale_error / 2
        zero = torch.zeros(())
        heard = self.heard(coefficients, types, coded, knob) if config.hearing else {"loss": zero}
        weight = balance(knob)
        return {
            "loss": ((total + heard["loss"]) * weight / 100).mean() + side / 100,
            "coefficients": coded.coefficient_bits.mean(),
            "side": side,
            "levels": off.mean(),
            "scales": coded.scale_error.mean(),
            "dissimilarity": heard.get("dissimilarity", zero),
            "pull": zero,
            "steps": coded.side.steps.square().mean().sqrt(),
            "noise": coded.side.noise.mean(),
        }

    def heard(self, coefficients: Tensor, types: Tensor, coded: Coded, knob: Tensor) -> dict[str, Tensor]:
        """What steps and noise do to bits and to the sound, in bits a frame."""
        kinds = types[..., None]
        self.shift = torch.zeros(len(knob), requires_grad=True)
        moved = (
            torch.log2(coded.steps) - torch.log2(coded.steps.detach()) + self.shift[:, None, None, None, None]
        )
        rows = coded.scales.detach().clamp(0, ROWS - 1)
        count = torch.tensor(EDGES).diff() / SLOTS
        pulls = -UNITS * count * self.bit_slopes[rows.long()] * (rows > LEAST_SCALE)
        fixed = coded.steps.detach()
        noise = torch.rand(coded.integers.shape) * 2 - 1
        side = Side(coded.side.levels.detach(), coded.side.steps, coded.side.noise)
        decoded = dequantize(coded.integers, fixed, side, types, self.bands, noise)
        error = (decoded[..., :CODED] - coefficients).detach()
        change = self.error_slopes[rows.long()] * moved * math.log(2)
        decoded = decoded + F.pad(error * self.bands.spread(change, kinds), (0, FRAME - CODED))
        levels = self.hearing.levels(self.sound(decoded, types))
        with torch.no_grad():
            true = self.hearing.levels(self.sound(F.pad(coefficients, (0, FRAME - CODED)), types))
        far = self.hearing(true, levels).unflatten(0, (-1, 2)).mean(1)
        self.rate_pull = pulls.detach().sum((-1, -2, -3)).mean(-1)
        price = 10 ** self.prices[self.bin(knob)]
        tame = 0.02 * (coded.side.steps.square() + coded.side.noise.square()).mean((1, 2, 3, 4))
        loss = (pulls * moved).sum((-1, -2, -3)).mean(1) + far / price + tame
        return {"loss": loss, "dissimilarity": far.mean()}

    def sound(self, coefficients: Tensor, types: Tensor) -> Tensor:
        """Left and right, (B · 2, n), of coefficients of mid and side, (B, frames, 2, 960)."""
        mid, side = self.transform.inverse(coefficients.transpose(1, 2), types[:, None]).unbind(1)
        return torch.stack((mid + side, mid - side), 1).flatten(0, 1) * 0.5**0.5

    def bin(self, knob: Tensor) -> Tensor:
        """Which price a knob has, int64."""
        low, high = self.config.knobs_low, self.config.knobs_high
        return ((knob - low) / (high - low) * len(self.prices)).long().clamp(0, len(self.prices) - 1)

    def set_prices(self, knob: Tensor) -> Tensor:
        """Move the prices to where a finer step would gain as much as it costs; the ratio of both, (B,)."""
        assert self.shift.grad is not None
        gain = self.shift.grad * 100 * len(knob) / balance(knob) - self.rate_pull
        ratio = (gain / -self.rate_pull.clamp(max=-1.0)).clamp(0.3, 3)
        self.prices.index_add_(0, self.bin(knob), 0.03 * torch.log10(ratio))
        return ratio

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
        if config.hearing:
            terms["pull"] = self.set_prices(knob).mean()
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
