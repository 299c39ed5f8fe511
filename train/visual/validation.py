"""Scores of a picture model on development pictures: bits and PSNR by quality, and the distance to JPEG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from fsqcodec.visual.model import STRIDE, VisualModel
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ..data.cache import cached_frames
from ..data.manifest import list_media
from ..data.visual import is_development
from ..evaluation.bd_rate import bjontegaard_rate
from .prior import VisualPriorNetwork, by_layer

_MOST = 16
"""Pictures that are looked at."""
_JPEG = (10, 20, 35, 50, 65, 80, 90)
"""Qualities of the curve that rates are compared with."""


class VisualValidator:
    """Mean bits a pixel and RGB-PSNR over pictures, by quality.

    Args:
        pictures: RGB uint8 (H, W, 3) each, of whole latent positions.
        prior: the network whose bits count.
    """

    def __init__(self, pictures: list[NDArray[np.uint8]], prior: VisualPriorNetwork) -> None:
        self.pictures, self.prior = pictures, prior
        points = [[_jpeg(picture, quality) for quality in _JPEG] for picture in pictures]
        self.jpeg: NDArray[np.float64] = np.mean(points, axis=0)
        """Rate and quality, (points, 2)."""

    @classmethod
    def of_media(cls, media: str, prior: VisualPriorNetwork, cache: Path) -> VisualValidator:
        """Development pictures of a folder or glob, cut to whole latent positions.

        Raises:
            ConfigError: there are no media.
            MediaError: one cannot be read.
        """
        files = [file for file in list_media(media) if is_development(file)][:_MOST]
        pictures = [cached_frames(file, cache)[0] for file in files]
        return cls([p[: len(p) // STRIDE * STRIDE, : p.shape[1] // STRIDE * STRIDE] for p in pictures], prior)

    @torch.no_grad()
    def score(self, model: VisualModel) -> dict[str, float]:
        """`bpp_Q` and `psnr_Q` of some qualities, and the Bjøntegaard rate difference to JPEG in per cent."""
        count = model.config.qualities
        qualities = sorted({round(i * (count - 1) / 4) for i in range(5)})
        points = np.array(
            [np.mean([self._point(model, p, q) for p in self.pictures], axis=0) for q in qualities]
        )
        scores = {f"bpp_{q}": float(points[i, 0]) for i, q in enumerate(qualities)}
        scores |= {f"psnr_{q}": float(points[i, 1]) for i, q in enumerate(qualities)}
        difference = bjontegaard_rate(self.jpeg, points)
        return scores | ({} if difference is None else {"bd_jpeg": difference})

    def _point(self, model: VisualModel, picture: NDArray[np.uint8], quality: int) -> tuple[float, float]:
        """Bits a pixel and PSNR."""
        x, y, tokens = self._reconstruct(model, picture, quality)
        digits, layout = model.digits(tokens), self.prior.layout
        logits = self.prior(digits, torch.tensor([quality], device=digits.device))
        lengths = -torch.log_softmax(logits, -1) / np.log(2)
        chosen = by_layer(digits, layout).long() + layout.levels // 2
        bits = float(lengths.gather(-1, chosen[..., None]).sum())
        error = float((y - x).square().mean()) * 127.5**2
        return bits / x[0, ..., 0].numel(), _psnr(error)

    @staticmethod
    def _reconstruct(
        model: VisualModel, picture: NDArray[np.uint8], quality: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A picture as the network sees it, what it makes of it, rounded to 8 bits, and the tokens."""
        device = next(model.parameters()).device
        x = torch.from_numpy(picture[None].astype(np.float32)).to(device) / 127.5 - 1
        stages = torch.tensor([model.quantizer.stages], device=device)
        y, tokens, _ = model(x, torch.tensor([quality], device=device), stages)
        rounded = ((y.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
        return x, rounded, tokens

    @torch.no_grad()
    def write_samples(self, model: VisualModel, writer: SummaryWriter, step: int) -> None:
        """Two pictures at the lowest and at the highest quality to TensorBoard."""
        for i, picture in enumerate(self.pictures[:2]):
            for quality in (0, model.config.qualities - 1):
                _, y, _ = self._reconstruct(model, picture, quality)
                writer.add_image(f"picture{i}/q{quality}", (y[0] + 1) / 2, step, dataformats="HWC")


def _jpeg(picture: NDArray[np.uint8], quality: int) -> tuple[float, float]:
    """Bits a pixel and PSNR of libjpeg-turbo, optimised, 4:2:0."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
    decoded = np.asarray(Image.open(file), np.float64)
    error = float(np.square(decoded - picture).mean())
    return len(file.getvalue()) * 8 / picture[..., 0].size, _psnr(error)


def _psnr(error: float) -> float:
    """Decibels of a mean squared error of values up to 255."""
    return float(10 * np.log10(255**2 / max(error, 1e-3)))
