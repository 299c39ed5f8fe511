"""Starting networks from those of a pretrained model, of the same shape or not."""

from __future__ import annotations

from typing import Any

from fsqcodec.audio.blocks import Block
from fsqcodec.checkpoints import find_model, read_metadata
from fsqcodec.visual.model import Block as VisualBlock
from torch import nn


def load_fitting(model: nn.Module, pretrained: nn.Module) -> None:
    """Copy the pretrained weights that have the same name and shape in `model`.

    Blocks that `pretrained` lacks begin by passing on what they get, so that a network grown deeper says at
    first what the pretrained one says (Net2Net, Chen et al. 2016).
    """
    own = model.state_dict()
    fitting = {
        name: weight
        for name, weight in pretrained.state_dict().items()
        if name in own and own[name].shape == weight.shape
    }
    model.load_state_dict(fitting, strict=False)
    known = dict(pretrained.named_modules())
    for name, block in model.named_modules():
        if isinstance(block, Block | VisualBlock) and name not in known:
            nn.init.zeros_(block.narrow.weight)
            nn.init.zeros_(block.narrow.bias)


def origin_of(model: str) -> dict[str, Any] | None:
    """Provenance of the model that a run starts from; None without a model, or where the model does not say.

    Raises:
        ModelError: there is no such model.
    """
    return read_metadata(find_model(model)).get("train") if model else None
