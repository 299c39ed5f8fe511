"""The prior of pictures in floats: what is trained here is exported to `fsqcodec.visual.prior`.

For every layer of the bitstream a small network of its own: contexts (`fsqcodec.visual.context`) → hidden
units → hidden units → logits of the layer's digits. A bias by quality tells it the gain, another whether
there is a frame before.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from fsqcodec.entropy.integer import ACTIVATION_BITS, LOGIT_BITS, weight_table
from fsqcodec.visual.context import CHANGES, INPUT_BITS, Layout, black
from fsqcodec.visual.model import VisualConfig
from fsqcodec.visual.prior import KINDS, VisualPrior, dtype_of
from numpy.typing import NDArray
from torch import Tensor, nn

from ..integer_training import QuantizedNetwork

SCALES = ("first", "mix", "out")
"""Of every layer; contexts share the first."""


class VisualPriorNetwork(QuantizedNetwork):
    """Logits of every digit of pictures' tokens, given what is decoded before it."""

    def __init__(self, config: VisualConfig) -> None:
        layout = Layout.of(config)
        layers, hidden = range(layout.layers), config.prior_width
        shared = {f"first{k}": [f"{kind}{k}" for kind in KINDS] for k in layers}
        shared |= {f"mix{k}": [f"mix{k}"] for k in layers} | {f"out{k}": [f"out{k}"] for k in layers}
        super().__init__(shared)
        self.layout = layout
        for k in layers:
            for kind in KINDS:
                inputs = layout.inputs(k, kind)
                self._add(f"{kind}{k}", torch.randn(inputs, hidden) * 0.3 / max(1, inputs) ** 0.5)
            self._add(f"bias{k}", 0.3 + 0.05 * torch.randn(2, config.qualities, hidden))
            self._add(f"mix{k}", torch.randn(hidden, hidden) / hidden**0.5)
            self._add(f"mix_bias{k}", torch.full((hidden,), 0.3))
            self._add(f"out{k}", torch.randn(hidden, layout.width * layout.levels) * 0.1)
            if layout.place(k)[0]:
                self._add(f"inner{k}", torch.zeros(layout.width, layout.levels, layout.levels))
            self._add(f"echo{k}", torch.zeros(CHANGES, layout.width, layout.echoes(k), layout.levels))
            self._add(f"out_bias{k}", torch.zeros(layout.width * layout.levels))

    def _add(self, name: str, value: Tensor) -> None:
        self.register_parameter(name, nn.Parameter(value))

    def forward(self, digits: Tensor, quality: Tensor, before: Tensor | None = None) -> Tensor:
        """Logits float32 (B, h, w, layers, channels of a layer, L).

        Args:
            digits: centred digits float32 (B, h, w, passes, D), 0 in the middle cell.
            quality: int64 (B,).
            before: the digits of the frame before.
        """
        layout, layers = self.layout, []
        white = _white(digits)
        for k in range(layout.layers):
            bias = self.get_parameter(f"bias{k}")[int(before is not None), quality]
            sums = bias[:, None, None]
            for kind, values in layout.contexts(k, digits, before).items():
                sums = sums + values @ self.weight(f"{kind}{k}") / 2**INPUT_BITS
            neighbours = layout.beside(k, digits)
            if neighbours is not None:
                sums = sums + white * (neighbours @ self.weight(f"beside{k}")) / 2**INPUT_BITS
            units = self.units(sums)
            units = self.units(units @ self.weight(f"mix{k}") + self.get_parameter(f"mix_bias{k}"))
            logits = (units @ self.weight(f"out{k}") + self.get_parameter(f"out_bias{k}")).float()
            logits = logits.unflatten(-1, (layout.width, layout.levels)) + self._inner(k, digits.detach())
            layers.append(
                logits if before is None else logits + self._echo(k, digits.detach(), before.detach())
            )
        return torch.stack(layers, 3)

    def _table(self, name: str) -> Tensor:
        """A table of logits, in their integer steps once the network is quantized."""
        table = self.get_parameter(name)
        if not self.scales:
            return table
        rounded: Tensor = torch.round(table * 2**LOGIT_BITS) / 2**LOGIT_BITS
        return table + (rounded - table).detach()

    def _inner(self, layer: int, digits: Tensor) -> Tensor | float:
        """Logits (B, h, w, channels, L) that the channel's coarser value adds."""
        rows = self.layout.inner(layer, digits)
        if rows is None:
            return 0.0
        logits: Tensor = self._table(f"inner{layer}")[
            torch.arange(self.layout.width, device=rows.device), rows
        ]
        return logits

    def _echo(self, layer: int, digits: Tensor, before: Tensor) -> Tensor:
        """Logits (B, h, w, channels, L) that the frame before adds."""
        layout, table = self.layout, self._table(f"echo{layer}")
        change = layout.change(layer, digits, before, white=False)
        if not layout.place(layer)[0]:
            change = torch.where(
                _white(digits)[..., 0], layout.change(layer, digits, before, white=True), change
            )
        rows = layout.echo(layer, digits, before)
        logits: Tensor = table[change[..., None], torch.arange(layout.width, device=rows.device), rows]
        return logits

    def export(self) -> dict[str, NDArray[np.integer]]:
        """The tensors of `fsqcodec.visual.prior.VisualPrior`; `quantize` comes first."""
        tensors = {
            name: self.rounded(name)
            if name in self._scale_of
            else torch.round(self.get_parameter(name).detach() * 2.0**point)
            for name, point in self.points(self.scales).items()
        }
        scales = [[self.scales[f"{name}{k}"] for name in SCALES] for k in range(self.layout.layers)]
        tensors |= {"scales": torch.tensor(scales), "weights": weight_table()}
        return {name: tensor.cpu().numpy().astype(dtype_of(name)) for name, tensor in tensors.items()}

    def points(self, scales: Mapping[str, int]) -> dict[str, int]:
        """See `QuantizedNetwork`. A bias counts in the units of the sum that it joins."""
        points = {name: scales[scale] for name, scale in self._scale_of.items()}
        for k in range(self.layout.layers):
            first, mix, out = (scales[f"{name}{k}"] for name in SCALES)
            points |= {
                f"bias{k}": first + INPUT_BITS,
                f"mix_bias{k}": mix + ACTIVATION_BITS,
                f"out_bias{k}": out + ACTIVATION_BITS,
                f"echo{k}": LOGIT_BITS,
            }
            if self.layout.place(k)[0]:
                points[f"inner{k}"] = LOGIT_BITS
        return points

    def restore(self, prior: VisualPrior) -> None:
        """Start from the weights of an integer prior; see `QuantizedNetwork`."""
        rows = zip(range(self.layout.layers), prior.scales, strict=True)
        scales = {f"{name}{k}": scale for k, row in rows for name, scale in zip(SCALES, row, strict=True)}
        self._restore(prior.tensors, scales)


def by_layer(x: Tensor, layout: Layout) -> Tensor:
    """(B, h, w, passes, D) → (B, h, w, layers, channels of a layer)."""
    layers: Tensor = x.unflatten(-1, (layout.slices, -1)).flatten(3, 4)
    return layers[:, :, :, : layout.layers]


def _white(digits: Tensor) -> Tensor:
    """White fields of the checkerboard of positions, bool (h, w, 1)."""
    height, width = digits.shape[1:3]
    return ~black(height, width, digits.device)
