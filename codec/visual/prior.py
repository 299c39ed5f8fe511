"""The prior of pictures and video in integers: `fsqcodec.train.visual.prior`, exported.

Weights are int8, activations 0 … 127, values whole cells of the finest grid; products run on float carriers
that hold whole numbers (`fsqcodec.entropy.integer`). A layer is coded in one step, or in two on a
checkerboard, so that decoding is a dozen matrix products a frame and never a loop over positions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..entropy import integer, range_coder
from ..entropy.kernels import add_rows, frequency_rows
from ..entropy.learned import ANSWER, LearnedPrior, Tensors, TensorSpec
from .context import CHANGES, INPUT_BITS, Layout, black
from .model import VisualConfig
from .skip import Skips

KINDS = ("around", "point", "beside", "before")
"""Kinds of context, each with a matrix in every layer."""
Coders = Sequence[range_coder.Encoder | range_coder.ReferenceEncoder]
Decoders = Sequence[range_coder.Decoder | range_coder.ReferenceDecoder]
Find = Callable[[int, Tensor, Tensor, range_coder.Frequencies], Tensor]
"""Levels of a step, from the layer, the digits so far, the fields (h, w) of the step, and its frequencies."""
_PROBE_SIDE = 3


def dtype_of(name: str) -> type[np.integer]:
    """Type that a tensor of the prior is stored in."""
    if name == ANSWER:
        return np.uint8
    bare = re.sub(r"\d+$", "", name)
    return np.int8 if bare in (*KINDS, "mix", "out") else np.int16 if bare in ("echo", "inner") else np.int32


class VisualPrior(LearnedPrior):
    """Codes the digits of pictures with exact networks.

    Digits are centred (0 is the middle cell), float32 of whole numbers (h, w, passes, D).

    Args:
        tensors: as `fsqcodec.train.visual.prior` exports them.
        config: of the picture model.
        carrier: float type of the matrix products; the integers are the same.
        finalise: compute the known answer, for tensors that were just made.

    Raises:
        ModelError: tensors are missing, could overflow, or do not give the known answer.
    """

    def __init__(
        self,
        tensors: Tensors,
        config: VisualConfig,
        carrier: torch.dtype = torch.float32,
        finalise: bool = False,
    ) -> None:
        self.layout = Layout.of(config)
        self.qualities, self.hidden = config.qualities, config.prior_width
        super().__init__(tensors, carrier, finalise)

    @cached_property
    def scales(self) -> list[list[int]]:
        """Binary digits behind the point of a layer's first, second and last matrix."""
        found: list[list[int]] = self.tensors["scales"].tolist()
        return found

    def _specs(self) -> dict[str, TensorSpec]:
        layout, hidden = self.layout, self.hidden
        outputs = layout.width * layout.levels
        shapes: dict[str, tuple[int, ...]] = {
            "scales": (layout.layers, 3),
            "weights": (integer.WEIGHT_TABLE_SIZE,),
            ANSWER: (32,),
        }
        for k in range(layout.layers):
            shapes |= {f"{kind}{k}": (layout.inputs(k, kind), hidden) for kind in KINDS}
            shapes |= {
                f"bias{k}": (2, self.qualities, hidden),
                f"mix{k}": (hidden, hidden),
                f"mix_bias{k}": (hidden,),
                f"out{k}": (hidden, outputs),
                f"out_bias{k}": (outputs,),
                f"echo{k}": (CHANGES, layout.width, layout.echoes(k), layout.levels),
            }
            if layout.place(k)[0]:
                shapes[f"inner{k}"] = (layout.width, layout.levels, layout.levels)
        return {name: TensorSpec(dtype_of(name), shape) for name, shape in shapes.items()}

    def _shifts(self) -> NDArray[np.integer]:
        return self.tensors["scales"]

    def _largest_sums(self) -> dict[str, NDArray[np.int64]]:
        w = {name: np.abs(array.astype(np.int64)) for name, array in self.tensors.items()}
        largest, top, sums = self.layout.largest(), integer.ACTIVATION, {}
        for k in range(self.layout.layers):
            inputs = np.concatenate([w[f"{kind}{k}"] for kind in KINDS])
            sums[f"bias{k}"] = inputs.sum(0) * largest + w[f"bias{k}"].max((0, 1))
            sums[f"mix{k}"] = w[f"mix{k}"].sum(0) * top + w[f"mix_bias{k}"]
            sums[f"out{k}"] = w[f"out{k}"].sum(0) * top + w[f"out_bias{k}"]
        return sums

    def _probe(self) -> Tensor:
        """Logits of two made-up frames of three by three positions."""
        layout, side = self.layout, _PROBE_SIDE
        count = torch.arange(2 * side * side * layout.passes * layout.channels)
        digits = (count * count * 40503 + count * 30011 >> 7) % layout.levels - layout.levels // 2
        frames = digits.reshape(2, side, side, layout.passes, layout.channels).to(self.carrier)
        pairs = ((frames[0], None, 0), (frames[1], frames[0], self.qualities - 1))
        logits = [self._logits(k, *pair).flatten() for pair in pairs for k in range(layout.layers)]
        return torch.cat(logits)

    # network

    def _sums(self, layer: int, digits: Tensor, before: Tensor | None, quality: int) -> Tensor:
        """First sums (h, w, hidden) of a layer, without the context `beside`."""
        w = self._float
        sums = w[f"bias{layer}"][int(before is not None), quality].expand(*digits.shape[:2], -1)
        batch = None if before is None else before[None].to(self.carrier)
        for kind, values in self.layout.contexts(layer, digits[None].to(self.carrier), batch).items():
            sums = sums + values[0] @ w[f"{kind}{layer}"]
        return sums

    def _beside(self, layer: int, digits: Tensor, fields: Tensor) -> Tensor:
        """What black fields add to the sums (n, hidden) of white ones, in layers of two steps."""
        values = self.layout.beside(layer, digits[None].to(self.carrier))
        assert values is not None
        return values[0][fields] @ self._float[f"beside{layer}"]

    def _rest(self, layer: int, sums: Tensor) -> Tensor:
        """Logits int32 (..., channels, L) in 2^-6 nats of first sums (..., hidden)."""
        w, (first, mix, out) = self._float, self.scales[layer]
        units = integer.requantize(sums, first + INPUT_BITS - integer.ACTIVATION_BITS)
        units = integer.requantize(units @ w[f"mix{layer}"] + w[f"mix_bias{layer}"], mix)
        logits = units @ w[f"out{layer}"] + w[f"out_bias{layer}"]
        shift = out + integer.ACTIVATION_BITS - integer.LOGIT_BITS
        found = torch.floor(logits * 2.0**-shift).int()
        return torch.unflatten(found, -1, (self.layout.width, self.layout.levels))

    def _add_tables(
        self, layer: int, logits: Tensor, digits: Tensor, before: Tensor | None, fields: Tensor, white: bool
    ) -> Tensor:
        """Logits int32 (n, channels, L) of positions `fields`, bool (h, w), with what the tables add, in
        place."""
        found, here = logits.numpy(), digits[fields]
        rows = self.layout.inner(layer, here)
        if rows is not None:
            add_rows(found, self.tensors[f"inner{layer}"][None], np.zeros(len(found), np.int64), rows.numpy())
        if before is not None:
            change = self.layout.change(layer, digits[None], before[None], white)[0][fields]
            rows = self.layout.echo(layer, here, before[fields])
            add_rows(found, self.tensors[f"echo{layer}"], change.numpy(), rows.numpy())
        return logits

    def _logits(self, layer: int, digits: Tensor, before: Tensor | None, quality: int) -> Tensor:
        """Logits int32 (h, w, channels, L) of a layer whose digits are known."""
        found = torch.zeros(*digits.shape[:2], self.layout.width, self.layout.levels, dtype=torch.int32)
        with integer.exact_products():
            for fields, logits in self._steps(layer, digits, before, quality):
                found[fields] = logits
        return found

    def _steps(
        self, layer: int, digits: Tensor, before: Tensor | None, quality: int, skipped: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Fields (h, w) and logits int32 (n, channels, L) of each step of a layer, without `skipped`
        positions.

        The digits of a step's fields must be there when the next step is asked for; under
        `integer.exact_products`.
        """
        sums = self._sums(layer, digits, before, quality)
        for step, fields in enumerate(self._fields(layer, *digits.shape[:2])):
            if skipped is not None:
                fields = fields & ~skipped
            if not fields.any():
                continue
            chosen = sums[fields]
            if step:
                chosen = chosen + self._beside(layer, digits, fields)
            logits = self._rest(layer, chosen)
            yield fields, self._add_tables(layer, logits, digits, before, fields, white=bool(step))

    def _rows(self, logits: Tensor) -> range_coder.Frequencies:
        """Frequencies int32 (n, L), positions and then channels, of logits (..., channels, L)."""
        rows: range_coder.Frequencies = frequency_rows(logits.flatten(0, -2).numpy(), self.tensors["weights"])
        return rows

    def _fields(self, layer: int, height: int, width: int) -> list[Tensor]:
        """Masks (h, w) of the steps that a layer is coded in."""
        if self.layout.place(layer)[0]:
            return [torch.ones(height, width, dtype=torch.bool)]
        first = black(height, width)[..., 0]
        return [first, ~first]

    def _own(self, layer: int, digits: Tensor) -> Tensor:
        """A layer's digits (h, w, channels), a view."""
        number, first = self.layout.place(layer)
        return digits[:, :, number, first : first + self.layout.width]

    # frames

    def encode(
        self,
        coders: Coders,
        values: Tensor,
        before: Tensor | None,
        quality: int,
        skips: Skips | None = None,
        tolerance: float = 0.0,
    ) -> Tensor:
        """Round and code one frame: layer k into coder k, for as many layers as there are coders.

        Args:
            coders: range encoders of the layers.
            values: of the frame, in cells of the finest grid, not rounded: float32 (h, w, D).
            before: digits of the frame before; None for the first.
            quality: 0 … qualities - 1.
            skips: where given, positions that stay as they were are told in coder 0 and not coded.
            tolerance: by how much the squared error of a position, in its channels' finest cells, may grow
                for that.

        Returns:
            the digits (h, w, passes, D).
        """
        wanted = self._round(values, len(coders))
        skipped = None
        if skips is not None and before is not None:
            skipped = self.layout.growth(values, wanted, before) <= tolerance
            skips.encode(coders[0], skipped.numpy())

        def choose(layer: int, digits: Tensor, fields: Tensor, rows: range_coder.Frequencies) -> Tensor:
            found = self._own(layer, wanted)[fields] + self.layout.levels // 2
            coders[layer].push(found.flatten().int().numpy(), rows)
            return found

        return self._frame(len(coders), values.shape[0], values.shape[1], before, quality, choose, skipped)

    def _round(self, values: Tensor, layers: int) -> Tensor:
        """Digits (h, w, passes, D) of the first layers nearest to values (h, w, D)."""
        layout, most = self.layout, self.layout.levels // 2
        digits = torch.zeros(*values.shape[:2], layout.passes, layout.channels)
        for layer in range(layers):
            number, first = layout.place(layer)
            own = slice(first, first + layout.width)
            rest = values[..., own] - layout.known(digits[..., own], number, 0)
            self._own(layer, digits)[:] = (rest / layout.unit(number)).round().clamp(-most, most)
        return digits

    def decode(
        self,
        decoders: Decoders,
        height: int,
        width: int,
        before: Tensor | None,
        quality: int,
        skips: Skips | None = None,
    ) -> Tensor:
        """Digits (height, width, passes, D) of the next frame; layers without a decoder stay 0.

        `skips` is given where the encoder was given one.

        Raises:
            BitstreamError: no encoder wrote these messages.
        """

        def read(layer: int, digits: Tensor, fields: Tensor, rows: range_coder.Frequencies) -> Tensor:
            return torch.from_numpy(decoders[layer].pull(rows)).view(-1, self.layout.width)

        skipped = None
        if skips is not None and before is not None:
            skipped = torch.from_numpy(skips.decode(decoders[0]))
        return self._frame(len(decoders), height, width, before, quality, read, skipped)

    @torch.inference_mode()
    def _frame(
        self,
        layers: int,
        height: int,
        width: int,
        before: Tensor | None,
        quality: int,
        find: Find,
        skipped: Tensor | None = None,
    ) -> Tensor:
        """Digits of a frame, step by step; `find` tells the levels (positions, channels) of a step.

        Positions that are `skipped`, bool (h, w), are as they were before.
        """
        layout = self.layout
        digits = torch.zeros(height, width, layout.passes, layout.channels)
        if skipped is not None:
            assert before is not None
            digits[skipped] = before[skipped]
        for k in range(layers):
            own = self._own(k, digits)
            with integer.exact_products():
                for fields, logits in self._steps(k, digits, before, quality, skipped):
                    own[fields] = find(k, digits, fields, self._rows(logits)).float() - layout.levels // 2
        return digits

    def bits(self, digits: Tensor, before: Tensor | None, quality: int) -> NDArray[np.float64]:
        """Ideal code length in bits of each layer of a frame, (layers,); positions that stay as they were are
        free."""
        coded = torch.ones(digits.shape[:2], dtype=torch.bool)
        if before is not None:
            coded = (digits != before).flatten(2).any(-1)
        lengths = []
        for k in range(self.layout.layers):
            rows = self._rows(self._logits(k, digits, before, quality)[coded])
            chosen = self._own(k, digits)[coded].flatten().long() + self.layout.levels // 2
            lengths.append(-np.log2(rows[np.arange(len(rows)), chosen] / range_coder.TOTAL).sum())
        return np.array(lengths)
