"""The learned prior in floats: what is trained here is exported to the integers of `fsqcodec.audio.prior`.

A causal network over the digits of residual FSQ tokens. Every digit (stage, channel) is predicted from
- earlier frames: their digits, embedded, through two causal convolutions;
- the stages before it in its frame, and the channels before it in its stage.

Hidden units come in blocks, one a layer of the bitstream, the largest for the most important layer, and a
block sees blocks of the same and of more important layers only (weights masked block-triangular). So layers
can be dropped, from the last on, and what is left decodes. Inside a frame the network is a NADE (Larochelle
and Murray 2011) over stages: one running sum of embeddings, to which every stage adds its digits, gives the
hidden units of the next.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import torch
from fsqcodec.audio.prior import SCALES, TAPS, TYPES, Prior
from fsqcodec.entropy.integer import ACTIVATION_BITS, weight_table
from fsqcodec.quantization.residual_fsq import ResidualFSQ
from numpy.typing import NDArray
from torch import Tensor, nn

from ..integer_training import QuantizedNetwork

_WIDE = frozenset({"embed", "history", "siblings"})
"""Exported as int16: they are looked up and added, and not multiplied."""


class PriorNetwork(QuantizedNetwork):
    """Logits of every digit of tokens, given what is decoded before it.

    Args:
        quantizer: whose tokens are predicted.
        stages_per_layer: stages that are dropped together.
        width: hidden units of all blocks together.
    """

    causal: Tensor
    placed: Tensor
    earlier: Tensor
    impossible: Tensor

    def __init__(self, quantizer: ResidualFSQ, stages_per_layer: int, width: int = 256) -> None:
        super().__init__({name: [name] for name in SCALES}, _WIDE)
        self.levels, self.stages = quantizer.group_levels, quantizer.stages
        self.depth = max(self.levels)
        self.layers = -(-self.stages // stages_per_layer)
        self.stages_per_layer = stages_per_layer
        self.blocks = block_edges(width, self.layers)
        choices = len(self.levels) * self.depth
        self.embed = nn.Parameter(torch.randn(self.stages * choices, width) * 0.05)
        self.embed_bias = nn.Parameter(torch.full((width,), 0.3))
        self.near = nn.Parameter(torch.randn(TAPS, width, width) * 0.5 / math.sqrt(width * TAPS))
        self.near_bias = nn.Parameter(torch.full((width,), 0.3))
        self.far = nn.Parameter(torch.randn(2, width, width) * 0.5 / math.sqrt(width * 2))
        self.far_bias = nn.Parameter(torch.full((width,), 0.3))
        self.context = nn.Parameter(torch.randn(width, width) * 0.5 / math.sqrt(width))
        self.history = nn.Parameter(torch.randn(self.stages, choices, width) * 0.05)
        self.hidden_bias = nn.Parameter(0.3 + torch.randn(self.stages, width) * 0.1)
        self.out = nn.Parameter(torch.randn(self.stages, width, choices) * 0.05)
        self.out_bias = nn.Parameter(torch.zeros(self.stages, choices))
        self.siblings = nn.Parameter(torch.zeros(self.stages, choices, choices))
        block = torch.arange(self.layers).repeat_interleave(torch.tensor(self.blocks).diff())
        layer = torch.arange(self.stages * choices) // (choices * stages_per_layer)
        channel = torch.arange(choices) // self.depth
        level = torch.arange(choices) % self.depth
        self.register_buffer("causal", (block[:, None] <= block).float(), persistent=False)
        self.register_buffer("placed", (layer[:, None] <= block).float(), persistent=False)
        self.register_buffer("earlier", (channel[:, None] < channel).float(), persistent=False)
        self.register_buffer("impossible", level >= torch.tensor(self.levels)[channel], persistent=False)

    def forward(self, digits: Tensor) -> Tensor:
        """Logits float32 (B, T, stages, d, L) of digits int64 (B, T, stages, d); T is one packet."""
        t, w = digits.shape[1], self.weight
        chosen = nn.functional.one_hot(digits, self.depth).flatten(-2).to(_precision(digits))
        frame = self.units(chosen.flatten(-2) @ (w("embed") * self.placed) + self.embed_bias)
        past = nn.functional.pad(frame, (0, 0, TAPS, 0))
        seen = torch.cat([past[:, TAPS - k :][:, :t] for k in range(1, TAPS + 1)], -1)
        near = self.units(seen @ (w("near") * self.causal).flatten(0, 1) + self.near_bias)
        seen = torch.cat([near, nn.functional.pad(near, (0, 0, TAPS, 0))[:, :t]], -1)
        far = self.units(seen @ (w("far") * self.causal).flatten(0, 1) + self.far_bias)
        sizes = [b - a for a, b in itertools.pairwise(self.blocks)]
        blocks = zip(far.split(sizes, -1), w("context").split(sizes), strict=True)
        context = [units @ weights for units, weights in blocks]
        told = torch.cat([w("history"), w("siblings") * self.earlier], -1).unbind()
        sums, logits = far.new_zeros(()), []
        # Stage by stage: what one needs fits the cache, which halves the time against one tensor of all.
        for s, (digit, out) in enumerate(zip(chosen.unbind(2), w("out").unbind(), strict=True)):
            if s % self.stages_per_layer == 0:
                sums = sums + context[s // self.stages_per_layer].float()
            later, siblings = (digit @ told[s]).split([self.blocks[-1], chosen.shape[-1]], -1)
            logits.append(self.units(sums + self.hidden_bias[s]) @ out + siblings)
            sums = sums + later
        choices = (torch.stack(logits, 2).float() + self.out_bias).masked_fill(self.impossible, -1e4)
        digit_logits: Tensor = choices.unflatten(-1, (len(self.levels), self.depth))
        return digit_logits

    def export(self) -> dict[str, NDArray[np.integer]]:
        """The tensors of `fsqcodec.audio.prior.Prior`; `quantize` comes first."""
        masks = {"embed": self.placed, "near": self.causal, "far": self.causal, "siblings": self.earlier}
        tensors = {name: self.rounded(name) * masks.get(name, 1) for name in SCALES}
        for name, point in self.points(self.scales).items():
            if name not in tensors:
                tensors[name] = torch.round(self.get_parameter(name).detach() * 2.0**point)
        tensors |= {
            "scales": torch.tensor([self.scales[name] for name in SCALES]),
            "weights": weight_table(),
            "blocks": torch.tensor(self.blocks),
        }
        return {name: tensor.cpu().numpy().astype(TYPES[name]) for name, tensor in tensors.items()}

    def points(self, scales: Mapping[str, int]) -> dict[str, int]:
        """See `QuantizedNetwork`. A bias counts in the units of the sum that it joins."""
        biases = {
            "embed_bias": scales["embed"],
            "near_bias": scales["near"] + ACTIVATION_BITS,
            "far_bias": scales["far"] + ACTIVATION_BITS,
            "hidden_bias": scales["context"] + ACTIVATION_BITS,
            "out_bias": scales["out"] + ACTIVATION_BITS,
        }
        return {**scales, **biases}

    def restore(self, prior: Prior) -> None:
        """Start from the weights of an integer prior; see `QuantizedNetwork`."""
        self._restore(prior.tensors, prior.scale)


def _precision(x: Tensor) -> torch.dtype:
    """What matrix products compute in: one conversion here instead of one in every stage."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


def block_edges(width: int, layers: int) -> list[int]:
    """Where the blocks of hidden units begin, and the end: sizes fall as 1/1, 1/2, 1/3 …, at least one unit.

    A block serves all layers after its own too, so the first deserves the most.

    Raises:
        ValueError: fewer units than layers.
    """
    if width < layers:
        raise ValueError(f"{width} hidden units for {layers} layers: every layer needs one")
    shares = [sum(1 / (i + 1) for i in range(n)) for n in range(layers + 1)]
    return [round((width - layers) * share / shares[-1]) + n for n, share in enumerate(shares)]
