"""Training of an audio model: crops of speech, reconstruction losses, and the bits of a prior as a rate term."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from fsqcodec.audio.model import AudioConfig, AudioModel
from fsqcodec.checkpoints import load_model, save_model
from fsqcodec.codec import STAGES_PER_LAYER
from fsqcodec.errors import ConfigError
from fsqcodec.tables import StaticTables
from torch import Tensor

from .config import TrainConfig
from .data import Crops
from .loop import Weigh
from .losses import ReconstructionLoss
from .prior import PriorNetwork, code_lengths, rate
from .validation import Validation


class AudioTask:
    """See `loop.Task`."""

    unit = "audio"

    def __init__(self, config: TrainConfig, device: torch.device, notify: Callable[[str], None]) -> None:
        if config.parts not in ("all", "decoder"):
            raise ConfigError(f"parts: {config.parts!r} is neither all nor decoder")
        self.config, self.device = config, device
        self.model = _starting_model(config)
        self.model.encoder.requires_grad_(config.parts == "all")
        self.quantizer = self.model.quantizer
        shape = self.model.config
        samples = (
            math.ceil(config.data.crop * shape.sample_rate / shape.frame) * shape.frame
            + math.ceil(shape.lag / shape.frame) * shape.frame
        )
        self.crops = self.data = Crops(
            config.data,
            shape.sample_rate,
            samples,
            self.quantizer.stages,
            config.optim.dropout,
            config.seed,
            notify,
        )
        self.per_item = samples / shape.sample_rate
        self.facts = {"audio_hours": round(self.crops.seconds / 3600, 4)}
        self.terms = ReconstructionLoss(shape.sample_rate).to(device)
        self.prior = PriorNetwork(self.quantizer, STAGES_PER_LAYER) if any(config.loss.rate) else None

    def begin(self, prior: Any, progress: float) -> None:
        """Nothing changes between steps."""

    def loss(
        self, model: Any, prior: Any, batch: dict[str, Tensor], weigh: Weigh, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the reconstruction terms, λ times the rate, and the prior's own loss."""
        weights = {
            field.name: weigh(getattr(self.config.loss, field.name)) for field in fields(self.config.loss)
        }
        audio, stages = batch["audio"], batch["stages"]
        y, tokens, z = model(audio, stages, quantize=progress >= self.config.optim.no_quantizer)
        lambdas = weights["rate"], weights["rate"] * weights["rate_all"]
        fit, pressure = self._rate(prior, tokens, z, stages, *lambdas) if prior else (y.new_zeros(()),) * 2
        with torch.autocast(y.device.type, enabled=False):
            items = self.terms(y.float(), audio[:, : y.shape[1]])
        terms = {name: item.mean() for name, item in items.items()}
        loss = sum((weights[name] * term for name, term in terms.items()), pressure)
        return loss + fit, {"loss": loss, **terms} | ({"rate": fit} if prior else {})

    def _rate(
        self, prior: Any, tokens: Tensor, z: Tensor, stages: Tensor, some: float, every: float
    ) -> tuple[Tensor, Tensor]:
        """Bits a digit, the prior's loss; and λ (of crops with some, and with every stage) times them, the encoder's."""
        digits = self.quantizer.stage_digits(tokens)
        bits, pressure = rate(code_lengths(prior(digits)), digits, self.quantizer.positions(z))
        kept = torch.arange(self.quantizer.stages, device=stages.device) < stages[:, None]
        lambdas = torch.where(stages < self.quantizer.stages, some, every)
        return bits.mean(), (lambdas * (pressure * kept[:, None, :, None]).mean((1, 2, 3))).mean()

    def judge(self) -> Validation | None:
        """Scores on the configured clips."""
        media = self.config.validate
        return Validation.of_media(media, self.model.config, prior=self.prior) if media else None

    def publish(
        self, path: Path, model: AudioModel, prior: Any, provenance: dict[str, Any], last: bool
    ) -> None:
        """Write the model with static tables; `fit_prior` adds the learned prior."""
        save_model(path, model, {"train": provenance}, self.estimate_tables(model, 2000 if last else 200))

    @torch.no_grad()
    def estimate_tables(self, model: AudioModel, crops: int) -> StaticTables:
        """Frequency tables from the tokens of random training crops."""
        source = copy.copy(self.crops)
        source.seed = self.config.seed + 1
        tokens = [
            model.quantizer.encode(model.encoder(source[i]["audio"][None].to(self.device)))[0].cpu()
            for i in range(crops)
        ]
        return StaticTables.estimate(torch.cat(tokens), copy.deepcopy(model.quantizer).cpu())


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
