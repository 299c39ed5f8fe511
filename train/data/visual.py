"""Crops of pictures, and of neighbouring frames of clips: crop i depends on the seed and on i alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from fsqcodec.errors import ConfigError, FSQCodecError
from torch import Tensor
from torch.utils.data import Dataset

from ..config.visual import VisualDataConfig
from ..task import Notify
from .cache import Clip, cached_frames
from .manifest import list_media

DEVELOPMENT = 5
"""One file in five is for development."""


def is_development(file: Path) -> bool:
    """Whether a file is kept for validation: by the hash of its name alone."""
    return hashlib.sha256(file.name.encode()).digest()[0] % DEVELOPMENT == 0


class VisualCrops(Dataset[dict[str, Tensor]]):
    """Items `frames` uint8 (T, S, S, 3), `quality` int64 () and `stages` int64 ().

    The items of a batch are all pictures (T = 1) or all pieces of clips (T = `config.frames`).

    Args:
        config: sources and sizes.
        batch: items of a global batch.
        qualities: of the model.
        layers: stages of each layer of the bitstream, and number of layers.
        dropout: share of the items that decode from a random prefix of the layers.
        seed: of everything random here.
        notify: called with a line about each file that cannot be read (it is left out).
    """

    def __init__(
        self,
        config: VisualDataConfig,
        batch: int,
        qualities: int,
        layers: tuple[int, int],
        dropout: float,
        seed: int,
        notify: Notify,
    ) -> None:
        self.config, self.batch, self.qualities, self.layers = config, batch, qualities, layers
        self.dropout, self.seed = dropout, seed
        self.pictures: list[Clip] = []
        self.clips: list[Clip] = []
        smallest = max(config.crop, config.clip_crop)
        for source in config.sources:
            for file in list_media(source.path, source.match, source.exclude):
                if is_development(file):
                    continue
                try:
                    clip = cached_frames(file, Path(config.cache))
                except FSQCodecError as error:
                    notify(f"left out: {error}")
                    continue
                if min(clip.shape[1:3]) >= smallest:
                    (self.clips if len(clip) > 1 else self.pictures).append(clip)
        if not self.pictures and not self.clips:
            raise ConfigError(f"no pictures of at least {smallest}×{smallest} in the training sources")

    def blocks(self, size: int, count: int = 20000) -> Tensor:
        """Random blocks float32 (count, 3·size·size) in [-1, 1], rows first and colours last."""
        rng = np.random.default_rng(self.seed)
        clips, blocks = self.pictures + self.clips, []
        for _ in range(count):
            clip = clips[rng.integers(len(clips))]
            t, y, x = (
                int(rng.integers(n)) for n in (len(clip), clip.shape[1] - size + 1, clip.shape[2] - size + 1)
            )
            blocks.append(clip[t, y : y + size, x : x + size].reshape(-1))
        return torch.from_numpy(np.stack(blocks)).float() / 127.5 - 1

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        moving = np.random.default_rng((self.seed, index // self.batch, 1)).random() < self.config.clips
        rng = np.random.default_rng((self.seed, index))
        pool = (self.clips or self.pictures) if moving else (self.pictures or self.clips)
        clip = pool[rng.integers(len(pool))]
        count, size = (self.config.frames, self.config.clip_crop) if moving else (1, self.config.crop)
        first = int(rng.integers(max(1, len(clip) - count + 1)))
        top = int(rng.integers(clip.shape[1] - size + 1))
        left = int(rng.integers(clip.shape[2] - size + 1))
        frames = clip[first : first + count, top : top + size, left : left + size]
        frames = np.concatenate([frames, np.repeat(frames[-1:], count - len(frames), axis=0)])
        if rng.random() < 0.5:
            frames = frames[:, :, ::-1]
        if rng.random() < 0.3:
            frames = frames.swapaxes(1, 2)
        per_layer, layers = self.layers
        kept = int(rng.integers(1, layers)) if rng.random() < self.dropout else layers
        return {
            "frames": torch.from_numpy(np.ascontiguousarray(frames)),
            "quality": torch.tensor(int(rng.integers(self.qualities))),
            "stages": torch.tensor(kept * per_layer),
        }
