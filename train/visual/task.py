"""Training of a picture model: squared error plus λ times the bits of the prior that is trained alongside."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from fsqcodec.checkpoints import save_model, visual_weights
from fsqcodec.visual.context import Layout
from fsqcodec.visual.model import STRIDE, VisualConfig, VisualModel
from fsqcodec.visual.prior import VisualPrior
from fsqcodec.visual.skip import PATIENCE
from torch import Tensor, nn
from torch.optim import Optimizer

from ..config.visual import VisualTrainConfig
from ..data.visual import VisualCrops
from ..optim.muon import muon_and_adamw
from ..rate import rate
from ..task import Batch, Notify, Task, Weigh
from ..warm_start import load_fitting, origin_of
from .blocking_loss import blocking_loss
from .prior import VisualPriorNetwork, by_layer
from .validation import VisualValidator


class VisualTask(Task):
    """See `task.Task`.

    Args:
        config: the run.
        device: what the networks are trained on.
        notify: called with lines about files that cannot be read.

    Raises:
        ConfigError: there are no data.
        ModelError: the pretrained model cannot be read.
    """

    unit = "megapixels"

    def __init__(self, config: VisualTrainConfig, device: torch.device, notify: Notify) -> None:
        self.config = config
        self.origin = origin_of(config.init)
        self.model, self.prior = starting_point(config)
        self.auxiliary: dict[str, nn.Module] = {"prior": self.prior}
        shape = self.model.config
        self.layout = Layout.of(shape)
        optim, data = config.optim, config.data
        self.data = VisualCrops(
            data,
            optim.batch,
            shape.qualities,
            (shape.stages_per_layer, self.layout.layers),
            optim.dropout,
            config.seed,
            notify,
        )
        self.workers = data.workers
        if not config.init:
            self.model.start_from(self.data.blocks(STRIDE))
        self.per_item = ((1 - data.clips) * data.crop**2 + data.clips * data.frames * data.clip_crop**2) / 1e6
        self.facts = {"pictures": len(self.data.pictures), "clips": len(self.data.clips)}
        low, high = config.loss.lambdas
        steps = torch.arange(shape.qualities, device=device) / max(1, shape.qualities - 1)
        self.lambdas = low * (high / low) ** steps
        # Without weights the highest quality, whose loss is twenty times that of the lowest, would rule the
        # network.
        self.weights = ((low * high) ** 0.5 / self.lambdas) ** 0.5

    def optimizers(self, dtype: torch.dtype, capturable: bool) -> list[Optimizer]:
        """Muon for the hidden matrices of the codec, AdamW for all else."""
        return muon_and_adamw(self.model, self.auxiliary.values(), self.config.optim, dtype, capturable)

    def begin(self, progress: float) -> None:
        """From a share of the steps on, the prior computes in the steps of its integers."""
        if progress >= self.config.quantize_from:
            self.prior.quantize()

    def loss(
        self, model: Any, auxiliary: dict[str, Any], batch: Batch, weigh: Weigh, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """λ · (squared error + blocking) + bits of the kept layers, all a pixel, and the prior's own bits."""
        frames = batch["frames"].float() / 127.5 - 1
        count = frames.shape[1]
        x = frames.flatten(0, 1)
        quality, stages = (batch[name].repeat_interleave(count) for name in ("quality", "stages"))
        y, tokens, z = model(x, quality, stages, partial(self._skip, count) if count > 1 else None)
        error = (y.float() - x).square().mean((1, 2, 3)) * 127.5**2
        blocking = blocking_loss(y.float() * 127.5, x * 127.5)
        digits, positions = self.model.digits(tokens), self.model.places(z)
        fast = torch.is_autocast_enabled(x.device.type) and not self.prior.scales
        with torch.autocast(x.device.type, enabled=fast, dtype=torch.bfloat16):
            logits = self._logits(auxiliary["prior"], digits, positions, batch["quality"], count)
        middle = self.layout.levels // 2
        coded = _coded(tokens, count)[..., None, None]
        bits, pressure = (
            (term * coded).sum((1, 2, 4)) / x[0, ..., 0].numel()  # bits a pixel of each layer, (B·T, layers)
            for term in rate(
                logits,
                by_layer(digits, self.layout).long() + middle,
                by_layer(positions, self.layout) + middle,
            )
        )
        kept_layers = stages[:, None] // self.model.config.stages_per_layer
        kept = torch.arange(self.layout.layers, device=stages.device) < kept_layers
        spent = (pressure * kept).sum(1)
        distortion = error + self.config.loss.seams * blocking
        loss = (self.weights[quality] * (self.lambdas[quality] * distortion + spent)).mean()
        full = kept.all(1)
        psnr = 10 * torch.log10(255**2 / error.clamp(min=1e-3))
        terms = {
            "loss": loss,
            "bpp": bits.sum(1).mean(),
            "seams": blocking.mean(),
            "psnr": (psnr * full).sum() / full.sum().clamp(min=1),
        }
        return loss + bits.sum(1).mean(), terms

    def _logits(self, prior: Any, digits: Tensor, positions: Tensor, quality: Tensor, count: int) -> Tensor:
        """Logits (B·T, h, w, layers, channels, L); every frame but a clip's first sees the one before."""
        # Contexts pass gradients on through the coarsest digit, which stands for the whole value.
        bent = digits.clone()
        bent[..., 0, :] = digits[..., 0, :] + (positions[..., 0, :] - positions[..., 0, :].detach())
        if count == 1:
            logits: Tensor = prior(bent, quality)
            return logits
        clips = bent.unflatten(0, (-1, count))
        first = prior(clips[:, 0], quality)
        ahead, before = (part.flatten(0, 1) for part in (clips[:, 1:], clips[:, :-1]))
        later = prior(ahead, quality.repeat_interleave(count - 1), before).unflatten(0, (-1, count - 1))
        return torch.cat([first[:, None], later], 1).flatten(0, 1)

    def _skip(self, count: int, z: Tensor, values: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions that hardly change stay as they were, frame after frame, as in encoding."""
        frames = [part.unflatten(0, (-1, count)).unbind(1) for part in (z, values, tokens)]
        kept = [tuple(part[0] for part in frames)]
        for new in zip(*(part[1:] for part in frames), strict=True):
            wanted = self.model.places(new[0].detach())[..., 0, :] * self.layout.unit(0)
            digits, before = self.model.digits(new[2]), self.model.digits(kept[-1][2])
            changed = (self.layout.growth(wanted, digits, before) > PATIENCE)[..., None]
            kept.append(tuple(torch.where(changed, now, old) for now, old in zip(new, kept[-1], strict=True)))
        z, values, tokens = (torch.stack(part, 1).flatten(0, 1) for part in zip(*kept, strict=True))
        return z, values, tokens

    def validator(self) -> VisualValidator | None:
        """Scores on the development pictures among the configured ones."""
        media, cache = self.config.validate, Path(self.config.data.cache)
        return VisualValidator.of_media(media, self.prior, cache) if media else None

    def publish(self, path: Path, model: VisualModel, provenance: dict[str, Any], last: bool) -> None:
        """Write the model; with its prior in integers once that computes in their steps."""
        prior = VisualPrior(self.prior.export(), model.config, finalise=True) if self.prior.scales else None
        save_model(path, model, {"train": provenance}, prior=prior)


def _coded(tokens: Tensor, count: int) -> Tensor:
    """Positions (B·T, h, w) that cost bits: of a clip's first frame all, of those after it what changed."""
    clips = tokens.unflatten(0, (-1, count))
    changed = (clips[:, 1:] != clips[:, :-1]).any(-1)
    return torch.cat([torch.ones_like(clips[:, :1, ..., 0], dtype=torch.bool), changed], 1).flatten(0, 1)


def starting_point(config: VisualTrainConfig) -> tuple[VisualModel, VisualPriorNetwork]:
    """Random weights, or those of `config.init` wherever the settings of `config.model` keep their shape."""
    pretrained = visual_weights(config.init) if config.init else None
    settings = pretrained.model.config.to_dict() if pretrained else {}
    shape = VisualConfig.from_dict({**settings, **config.model})
    model, prior = VisualModel(shape), VisualPriorNetwork(shape)
    if pretrained:
        load_fitting(model, pretrained.model)
        same = ("levels", "groups", "stages", "stages_per_layer", "qualities", "prior_width")
        if pretrained.prior and all(getattr(shape, s) == getattr(pretrained.model.config, s) for s in same):
            prior.restore(pretrained.prior)
    return model, prior
