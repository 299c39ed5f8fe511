"""Which blocks a frame is coded in: those of the least perceptual entropy under the rule's steps."""

from __future__ import annotations

import torch
from torch import Tensor

from .bands import CODED, Bands
from .transform import BLOCKS, LappedTransform, frame_count, perceptual_entropy


@torch.inference_mode()
def choose_blocks(channels: Tensor, knob: float, transform: LappedTransform, bands: Bands) -> Tensor:
    """Block types, int64 (..., frames), of sound, float32 (..., channels, n).

    Every type is judged as if all frames had it. All channels of a frame have the same type.
    """
    frames = frame_count(channels.shape[-1])
    costs = []
    for kind in range(len(BLOCKS)):
        types = torch.full((frames,), kind)
        found = transform(channels, types).movedim(-3, -2)  # ..., frames, channels, 960
        kinds = types[:, None]
        steps = bands.spread(10 ** (bands.steps(bands.levels(found, kinds), knob) / 20), kinds)
        costs.append(perceptual_entropy(found[..., :CODED], steps).sum(-1))
    return torch.stack(costs).argmin(0)
