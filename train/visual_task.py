"""Training of a picture model: squared error plus λ times the bits of the prior that is trained alongside."""

from __future__ import annotations

from collections.abc import Callable
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

from .config import VisualTrainConfig
from .donor import take_fitting
from .loop import Weigh
from .prior import rate
from .seams import seams
from .visual_data import VisualCrops
from .visual_prior import VisualPriorNetwork
from .visual_validation import VisualValidation


class VisualTask:
    """See `loop.Task`."""

    unit = "megapixels"

    def __init__(
        self, config: VisualTrainConfig, device: torch.device, notify: Callable[[str], None]
    ) -> None:
        self.config = config
        self.model, self.prior = starting_point(config)
        self.beside: dict[str, nn.Module] = {"prior": self.prior}
        shape = self.model.config
        self.layout = Layout.of(shape)
        layers = (shape.stages_per_layer, self.layout.layers)
        optim, data = config.optim, config.data
        self.data = VisualCrops(
            data, optim.batch, shape.qualities, layers, optim.dropout, config.seed, notify
        )
        if not config.init:
            self.model.start_from(self.data.blocks(STRIDE))
        self.per_item = ((1 - data.clips) * data.crop**2 + data.clips * data.frames * data.clip_crop**2) / 1e6
        self.facts = {"pictures": len(self.data.pictures), "clips": len(self.data.clips)}
        low, high = config.loss.lambdas
        steps = torch.arange(shape.qualities, device=device) / max(1, shape.qualities - 1)
        self.lambdas = low * (high / low) ** steps
        # Without weights the highest quality, whose loss is twenty times that of the lowest, would rule the network.
        self.weights = ((low * high) ** 0.5 / self.lambdas) ** 0.5

    def begin(self, beside: dict[str, Any], progress: float) -> None:
        """From a share of the steps on, the prior computes in the steps of its integers."""
        if progress >= self.config.quantize_from:
            beside["prior"].quantize()

    def steady(self, progress: float) -> bool:
        """Never: pictures and clips take turns."""
        return False

    def loss(
        self, model: Any, beside: dict[str, Any], batch: dict[str, Tensor], weigh: Weigh, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """λ · (squared error + seams) + bits of the kept layers, all a picture element, and the prior's own bits."""
        prior, frames = beside["prior"], batch["frames"].float() / 127.5 - 1
        count = frames.shape[1]
        x = frames.flatten(0, 1)
        quality, stages = (batch[name].repeat_interleave(count) for name in ("quality", "stages"))
        y, tokens, z = model(x, quality, stages, partial(self._hold, count) if count > 1 else None)
        error = (y.float() - x).square().mean((1, 2, 3)) * 127.5**2
        seam = seams(y.float() * 127.5, x * 127.5)
        digits, places = self.model.digits(tokens), self.model.places(z)
        fast = torch.is_autocast_enabled(x.device.type) and not prior_is_quantized(prior)
        exact = torch.autocast(x.device.type, enabled=fast, dtype=torch.bfloat16)
        with exact:
            logits = self._logits(prior, digits, places, batch["quality"], count)
        coded = _coded(tokens, count)[..., None, None]
        bits, pressure = (
            (term * coded).sum((1, 2, 4)) / x[0, ..., 0].numel()  # bits a picture element of each layer, (B·T, layers)
            for term in rate(logits, self._by_layer(digits).long() + self.layout.levels // 2,
                             self._by_layer(places) + self.layout.levels // 2)
        )  # fmt: skip
        per_layer = self.model.config.stages_per_layer
        kept = torch.arange(self.layout.layers, device=stages.device) < stages[:, None] // per_layer
        spent = (pressure * kept).sum(1)
        distortion = error + self.config.loss.seams * seam
        loss = (self.weights[quality] * (self.lambdas[quality] * distortion + spent)).mean()
        full = kept.all(1)
        shown = {
            "loss": loss, "bpp": bits.sum(1).mean(), "seams": seam.mean(),
            "psnr": (10 * torch.log10(255**2 / error.clamp(min=1e-3)) * full).sum() / full.sum().clamp(min=1),
        }  # fmt: skip
        return loss + bits.sum(1).mean(), shown

    def _logits(self, prior: Any, digits: Tensor, places: Tensor, quality: Tensor, count: int) -> Tensor:
        """Logits (B·T, h, w, layers, channels, L); every frame but a clip's first sees the one before."""
        # Contexts pass gradients on through the coarsest digit, which stands for the whole value.
        bent = digits.clone()
        bent[..., 0, :] = digits[..., 0, :] + (places[..., 0, :] - places[..., 0, :].detach())
        if count == 1:
            found: Tensor = prior(bent, quality)
            return found
        clips = bent.unflatten(0, (-1, count))
        first = prior(clips[:, 0], quality)
        ahead, before = (part.flatten(0, 1) for part in (clips[:, 1:], clips[:, :-1]))
        later = prior(ahead, quality.repeat_interleave(count - 1), before).unflatten(0, (-1, count - 1))
        return torch.cat([first[:, None], later], 1).flatten(0, 1)

    def _hold(self, count: int, z: Tensor, values: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions that hardly change stay as they were, frame after frame, as in encoding (`fsqcodec.visual.skip`)."""
        frames = [part.unflatten(0, (-1, count)).unbind(1) for part in (z, values, tokens)]
        kept = [tuple(part[0] for part in frames)]
        for new in zip(*(part[1:] for part in frames), strict=True):
            wanted = self.model.places(new[0].detach())[..., 0, :] * self.layout.unit(0)
            digits, before = self.model.digits(new[2]), self.model.digits(kept[-1][2])
            moved = (self.layout.growth(wanted, digits, before) > PATIENCE)[..., None]
            kept.append(tuple(torch.where(moved, now, old) for now, old in zip(new, kept[-1], strict=True)))
        held = (torch.stack(part, 1).flatten(0, 1) for part in zip(*kept, strict=True))
        return next(held), next(held), next(held)

    def _by_layer(self, x: Tensor) -> Tensor:
        """(B, h, w, passes, D) → (B, h, w, layers, channels of a layer)."""
        return x.unflatten(-1, (self.layout.slices, -1)).flatten(3, 4)[:, :, :, : self.layout.layers]

    def judge(self) -> VisualValidation | None:
        """Scores on the development pictures among the configured ones."""
        return VisualValidation.of_media(self.config.validate, self) if self.config.validate else None

    def publish(
        self, path: Path, model: VisualModel, beside: dict[str, Any], provenance: dict[str, Any], last: bool
    ) -> None:
        """Write the model; with its prior in integers once that computes in their steps."""
        prior = beside["prior"]
        exported = VisualPrior(prior.export(), model.config, finalise=True) if prior.scales else None
        save_model(path, model, {"train": provenance}, prior=exported)


def _coded(tokens: Tensor, count: int) -> Tensor:
    """Positions (B·T, h, w) that cost bits: those of a clip's frames after the first that changed, and the whole first."""
    clips = tokens.unflatten(0, (-1, count))
    changed = (clips[:, 1:] != clips[:, :-1]).any(-1)
    return torch.cat([torch.ones_like(clips[:, :1, ..., 0], dtype=torch.bool), changed], 1).flatten(0, 1)


def prior_is_quantized(prior: Any) -> bool:
    """Whether a prior, perhaps wrapped for several processes, needs all bits of float32."""
    return bool(getattr(prior, "module", prior).scales)


def starting_point(config: VisualTrainConfig) -> tuple[VisualModel, VisualPriorNetwork]:
    """Random weights, or those of `config.init` wherever the settings of `config.model` keep their shape."""
    donor = visual_weights(config.init) if config.init else None
    shape = VisualConfig.from_dict({**(donor.model.config.to_dict() if donor else {}), **config.model})
    model, prior = VisualModel(shape), VisualPriorNetwork(shape)
    if donor:
        take_fitting(model, donor.model)
        settings = ("levels", "groups", "stages", "stages_per_layer", "qualities", "prior_width")
        if donor.prior and all(getattr(shape, s) == getattr(donor.model.config, s) for s in settings):
            prior.restore(donor.prior)
    return model, prior
