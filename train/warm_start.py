"""Starting a network from the weights of another, of the same shape or not."""

from __future__ import annotations

from fsqcodec.audio.blocks import Block
from fsqcodec.visual.model import Block as VisualBlock
from torch import nn


def take_fitting(model: nn.Module, donor: nn.Module) -> None:
    """Copy the weights of `donor` that have a place of the same shape.

    Blocks that the donor lacks begin by passing on what they get, so that a network grown deeper says at first what the
    donor says (Net2Net, Chen et al. 2016).
    """
    own = model.state_dict()
    fitting = {k: v for k, v in donor.state_dict().items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    known = dict(donor.named_modules())
    for name, block in model.named_modules():
        if isinstance(block, Block | VisualBlock) and name not in known:
            nn.init.zeros_(block.narrow.weight)
            nn.init.zeros_(block.narrow.bias)
