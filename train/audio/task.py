"""Training of a model for sound: crops, reconstruction losses, and the bits of a prior as a rate term."""

from __future__ import annotations

import copy
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from fsqcodec.audio.blocks import Block
from fsqcodec.audio.codec import AudioWeights
from fsqcodec.audio.model import AudioConfig, AudioModel
from fsqcodec.audio.tokens import STAGES_PER_LAYER
from fsqcodec.checkpoints import audio_weights, round_matrices, save_model
from fsqcodec.entropy.static import StaticTables
from fsqcodec.errors import ConfigError
from fsqcodec.losses.reconstruction import Bands, Harmonics, ReconstructionLoss
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..config.audio import AudioTrainConfig
from ..data.audio import Crops
from ..optim.muon import muon_and_adamw
from ..rate import rate
from ..task import Batch, Notify, Task, Weigh
from ..warm_start import load_fitting, origin_of
from .discriminator import SpectrumDiscriminator, adversarial_terms
from .prior import PriorNetwork
from .validation import AudioValidator


class AudioTask(Task):
    """See `task.Task`.

    Args:
        config: the run.
        device: what the losses run on.
        notify: called with lines about files that cannot be read.

    Raises:
        ConfigError: `parts` is something else than `all` or `decoder`, or there are no data.
        ModelError: the pretrained model cannot be read.
    """

    unit = "audio"

    def __init__(self, config: AudioTrainConfig, device: torch.device, notify: Notify) -> None:
        if config.parts not in ("all", "decoder"):
            raise ConfigError(f"parts: {config.parts!r} is neither all nor decoder")
        self.config, self.device = config, device
        self.origin = origin_of(config.init)
        self.pretrained = audio_weights(config.init) if config.init else None
        self.model, self.prior = _starting_point(config, self.pretrained)
        self.model.encoder.requires_grad_(config.parts == "all")
        self.quantizer = self.model.quantizer
        shape = self.model.config
        frames = math.ceil(config.data.crop * shape.sample_rate / shape.frame) + math.ceil(
            shape.lag / shape.frame
        )
        samples = frames * shape.frame
        self.data = Crops(
            config.data,
            shape.sample_rate,
            samples,
            self.quantizer.stages,
            config.optim.dropout,
            config.seed,
            notify,
            shape.frame,
        )
        self.workers = config.data.workers
        self.per_item = samples / shape.sample_rate
        self.facts = {"audio_hours": round(self.data.seconds / 3600, 4)}
        self.terms = ReconstructionLoss(shape.sample_rate).to(device)
        self.auxiliary: dict[str, nn.Module] = {"prior": self.prior} if self.prior else {}
        if any(config.loss.adversarial) or any(config.loss.features):
            self.auxiliary["adversary"] = discriminator = SpectrumDiscriminator()
            if config.adversary:
                discriminator.load_state_dict(load_file(config.adversary))
        if config.compiled:
            for part in (*self.model.modules(), *self.terms.modules()):
                if isinstance(part, Block | Bands | Harmonics):
                    part.compile(dynamic=False)

    def optimizers(self, dtype: torch.dtype, capturable: bool) -> list[Optimizer]:
        """Muon for the hidden matrices of the codec, AdamW for all else."""
        return muon_and_adamw(self.model, self.auxiliary.values(), self.config.optim, dtype, capturable)

    def capturable(self, progress: float) -> bool:
        """Once rounding has begun; not with a discriminator, which draws what it looks at."""
        rounding = progress >= self.config.optim.no_quantizer
        return self.config.cuda_graphs and rounding and "adversary" not in self.auxiliary

    def loss(
        self, model: Any, auxiliary: dict[str, Any], batch: Batch, weigh: Weigh, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the reconstruction terms, λ times the rate, and the auxiliary networks' losses."""
        weights = {
            field.name: weigh(getattr(self.config.loss, field.name)) for field in fields(self.config.loss)
        }
        audio, stages = batch["audio"], batch["stages"]
        rounding = progress >= self.config.optim.no_quantizer
        y, tokens, z = model(audio, stages, rounding, batch.get("frames"))
        own: dict[str, Tensor] = {}
        pressure = y.new_zeros(())
        if "prior" in auxiliary:
            own["rate"], pressure = self._rate(
                auxiliary["prior"], tokens, z, stages, weights["rate"], weights["rate_all"]
            )
        target = audio[:, : y.shape[1]]
        with torch.autocast(y.device.type, enabled=False):
            terms = {name: item.mean() for name, item in self.terms(y.float(), target).items()}
        if "adversary" in auxiliary:
            own["critic"], asked = adversarial_terms(auxiliary["adversary"], y.float(), target)
            terms |= asked
        loss = sum((weights[name] * term for name, term in terms.items()), pressure)
        return sum(own.values(), loss), {"loss": loss, **terms, **own}

    def _rate(
        self, prior: Any, tokens: Tensor, z: Tensor, stages: Tensor, weight: Tensor, factor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Bits a digit, the prior's loss; and λ times them, the encoder's.

        Whoever keeps more stages asks for quality: beyond those of the first pass λ falls, geometrically, to
        `factor` of it.
        """
        digits = self.quantizer.stage_digits(tokens)
        bits, pressure = rate(prior(digits), digits, self.quantizer.positions(z))
        kept = torch.arange(self.quantizer.stages, device=stages.device) < stages[:, None]
        lambdas = weight * factor ** self.quantizer.refinement(stages)
        return bits.mean(), (lambdas * (pressure * kept[:, None, :, None]).mean((1, 2, 3))).mean()

    def validator(self) -> AudioValidator | None:
        """Scores on the configured clips."""
        media, prior = self.config.validate, self.prior
        if not prior and self.pretrained and self.pretrained.prior and self.config.parts == "decoder":
            prior = restored_prior(self.model, self.pretrained)
        return AudioValidator.of_media(media, self.model.config, prior=prior) if media else None

    def publish(self, path: Path, model: AudioModel, provenance: dict[str, Any], last: bool) -> None:
        """Write the model with static tables; `PriorTask` adds the prior. A decoder keeps its encoder's."""
        if self.config.parts == "decoder" and self.pretrained:
            # Averaging may touch the last bits of a frozen encoder, whose tokens must not change.
            model.encoder.load_state_dict(self.pretrained.model.encoder.state_dict())
            save_model(path, model, {"train": provenance}, self.pretrained.tables, self.pretrained.prior)
            return
        model = rounded(model)
        save_model(path, model, {"train": provenance}, self.estimate_tables(model, 2000 if last else 200))

    @torch.no_grad()
    def estimate_tables(self, model: AudioModel, crops: int) -> StaticTables:
        """Frequency tables from the tokens of random training crops."""
        source = copy.copy(self.data)
        source.seed = self.config.seed + 1
        tokens = [
            model.quantizer.encode(model.encoder(source[i]["audio"][None].to(self.device)))[0].cpu()
            for i in range(crops)
        ]
        return StaticTables.estimate(torch.cat(tokens), copy.deepcopy(model.quantizer).cpu())


def _starting_point(
    config: AudioTrainConfig, pretrained: AudioWeights | None
) -> tuple[AudioModel, PriorNetwork | None]:
    """Random weights, or pretrained ones wherever the settings of `config.model` keep their shape."""
    settings = pretrained.model.config.to_dict() if pretrained else {}
    model = AudioModel(AudioConfig.from_dict({**settings, **config.model}))
    if pretrained:
        load_fitting(model, pretrained.model)
    return model, restored_prior(model, pretrained) if any(config.loss.rate) else None


def rounded(model: AudioModel) -> AudioModel:
    """A copy whose encoder takes 8 bits a weight in its file, where tokens may change."""
    model = copy.deepcopy(model)
    # What looks at the spectra (`project`) keeps 16 bits: 8 cost 0.03 of ViSQOL there, and nothing elsewhere.
    for part in (model.encoder.fine, model.encoder.down, model.encoder.coarse, model.encoder.out):
        round_matrices(part)
    return model


def restored_prior(model: AudioModel, pretrained: AudioWeights | None) -> PriorNetwork:
    """A prior to train: with the pretrained weights if there are some for the same stages."""
    settings = ("levels", "groups", "stages")
    if (
        not pretrained
        or not pretrained.prior
        or any(getattr(model.config, s) != getattr(pretrained.model.config, s) for s in settings)
    ):
        return PriorNetwork(model.quantizer, STAGES_PER_LAYER)
    prior = PriorNetwork(model.quantizer, STAGES_PER_LAYER, len(pretrained.prior.tensors["embed_bias"]))
    prior.restore(pretrained.prior)
    return prior
