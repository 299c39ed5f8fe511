"""The learned prior of token streams, in integers: what the range coder is told to expect.

The network is that of `fsqcodec.train.audio.prior`, exported: weights are int8, embeddings int16, activations 0 …
127. Two implementations give the same integers: `Prior.frequencies` sees all tokens at once, as matrix
products (`fsqcodec.entropy.integer`); `fsqcodec.entropy.kernels.decode` goes digit by digit in plain integer
loops, as decoding must.

Context of a digit: earlier frames of its packet, earlier stages of its frame, earlier channels of its stage,
never a less important layer. So packets decode by themselves, and trailing layers can be dropped.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot, pad

from ..entropy import integer, range_coder
from ..entropy.kernels import PriorTensors, decode
from ..entropy.learned import ANSWER, LearnedPrior, Tensors, TensorSpec
from ..errors import BitstreamError, ModelError
from ..quantization import digits as mixed_radix
from ..quantization.residual_fsq import ResidualFSQ

TAPS = 4
"""Earlier frames that the first convolution sees, and the reach of the second."""
REACH = 2 * TAPS
"""Earlier frames that say anything about a digit."""
SCALES = ("embed", "near", "far", "context", "history", "out", "siblings")
"""Tensors with a scale: the real number is the integer over 2^scale."""
TYPES: dict[str, type[np.integer]] = {
    "embed": np.int16,
    "embed_bias": np.int32,
    "near": np.int8,
    "near_bias": np.int32,
    "far": np.int8,
    "far_bias": np.int32,
    "context": np.int8,
    "history": np.int16,
    "hidden_bias": np.int32,
    "out": np.int8,
    "out_bias": np.int32,
    "siblings": np.int16,
    "scales": np.int32,
    "weights": np.int32,
    "blocks": np.int32,
    ANSWER: np.uint8,
}
_PROBE_FRAMES = 6


class Prior(LearnedPrior):
    """Codes the digits of tokens with an exact network.

    Args:
        tensors: as `fsqcodec.train.audio.prior.export` makes them: names and dtypes of `TYPES`.
        quantizer: whose tokens are coded.
        stages_per_layer: stages of a layer of the bitstream.
        carrier: float type of the matrix products; the integers are the same.
        finalise: compute the known answer, for tensors that were just made.

    Raises:
        ModelError: tensors are missing, could overflow, or do not give the known answer.
    """

    def __init__(
        self,
        tensors: Tensors,
        quantizer: ResidualFSQ,
        stages_per_layer: int,
        carrier: torch.dtype = torch.float32,
        finalise: bool = False,
    ) -> None:
        self.levels = np.array(quantizer.group_levels)
        self.radix = np.array(mixed_radix.radix_of(quantizer.group_levels))
        self.stages, self.stages_per_layer = quantizer.stages, stages_per_layer
        self.layers = -(-self.stages // stages_per_layer)
        self.depth = int(self.levels.max())
        self.choices = len(self.levels) * self.depth
        super().__init__(tensors, carrier, finalise)
        self._loops = tuple(self.tensors[name] for name in PriorTensors._fields)
        self._possible = torch.arange(self.depth) < torch.from_numpy(self.levels)[:, None]

    @cached_property
    def scale(self) -> dict[str, int]:
        """Binary digits behind the point, by name of tensor."""
        return dict(zip(SCALES, self.tensors["scales"].tolist(), strict=True))

    def _specs(self) -> dict[str, TensorSpec]:
        width = self.tensors["embed_bias"].size if "embed_bias" in self.tensors else 0
        stages, choices = self.stages, self.choices
        shapes: dict[str, tuple[int, ...]] = {
            "embed": (stages * choices, width),
            "embed_bias": (width,),
            "near": (TAPS, width, width),
            "near_bias": (width,),
            "far": (2, width, width),
            "far_bias": (width,),
            "context": (width, width),
            "history": (stages, choices, width),
            "hidden_bias": (stages, width),
            "out": (stages, width, choices),
            "out_bias": (stages, choices),
            "siblings": (stages, choices, choices),
            "scales": (len(SCALES),),
            "weights": (integer.WEIGHT_TABLE_SIZE,),
            "blocks": (self.layers + 1,),
            ANSWER: (32,),
        }
        return {name: TensorSpec(TYPES[name], shape) for name, shape in shapes.items()}

    def _check(self) -> None:
        super()._check()
        blocks = self.tensors["blocks"]
        if blocks[0] != 0 or blocks[-1] != len(self.tensors["embed_bias"]) or (np.diff(blocks) < 1).any():
            raise ModelError("prior: blocks of hidden units do not fit")

    @property
    def _lifts(self) -> tuple[int, int]:
        """By how many binary digits `history` and `siblings` are shifted up to what they are added to."""
        one, scale = integer.ACTIVATION_BITS, self.scale
        return scale["context"] + one - scale["history"], scale["out"] + one - scale["siblings"]

    def _shifts(self) -> NDArray[np.integer]:
        one, scale = integer.ACTIVATION_BITS, self.scale
        drops = scale["embed"] - one, scale["out"] + one - integer.LOGIT_BITS
        return np.array([*scale.values(), *self._lifts, *drops])

    def _largest_sums(self) -> dict[str, NDArray[np.int64]]:
        w = {name: np.abs(array.astype(np.int64)) for name, array in self.tensors.items()}
        top, (lift_history, lift_siblings) = integer.ACTIVATION, self._lifts

        def largest(table: NDArray[np.int64]) -> NDArray[np.int64]:
            """Of rows (digits·L, n): the largest of each digit's, added up."""
            rows: NDArray[np.int64] = table.reshape(-1, self.depth, table.shape[-1]).max(1).sum(0)
            return rows

        history = largest(w["history"].reshape(-1, w["history"].shape[-1])) << lift_history
        siblings = np.stack([largest(table) for table in w["siblings"]]) << lift_siblings
        return {
            "embed": largest(w["embed"]) + w["embed_bias"],
            "near": w["near"].sum((0, 1)) * top + w["near_bias"],
            "far": w["far"].sum((0, 1)) * top + w["far_bias"],
            "hidden": w["context"].sum(0) * top + history + w["hidden_bias"].max(0),
            "out": w["out"].sum(1) * top + w["out_bias"] + siblings,
        }

    def _probe(self) -> Tensor:
        count = np.arange(_PROBE_FRAMES * self.stages * len(self.levels), dtype=np.int64)
        digits = (count * count * 40503 + count * 30011 >> 7).reshape(1, -1, self.stages, len(self.levels))
        return self.logits(torch.from_numpy(digits % self.levels))

    def to(self, device: str) -> Prior:
        """The same prior with its matrix products on another device."""
        moved = copy.copy(self)
        moved._float = {name: tensor.to(device) for name, tensor in self._float.items()}
        return moved

    # all at once

    def logits(self, digits: Tensor) -> Tensor:
        """Logits int64 (B, T, n, d, L) in 2^-6 nats of digits int64 (B, T, n, d), packets in rows.

        Stages that are left out (n of them are there) are not even zeros: they add nothing to any sum.
        """
        w, scale, (_, t, n, _) = self._float, self.scale, digits.shape
        lift_history, lift_siblings = self._lifts
        with integer.exact_products():
            chosen = one_hot(digits, self.depth).to(self.carrier).flatten(-2)
            chosen = pad(chosen, (0, 0, 0, self.stages - n))
            sums = chosen.flatten(-2) @ w["embed"] + w["embed_bias"]
            past = pad(integer.requantize(sums, scale["embed"] - integer.ACTIVATION_BITS), (0, 0, TAPS, 0))
            seen = torch.cat([past[:, TAPS - k :][:, :t] for k in range(1, TAPS + 1)], -1)
            near = integer.requantize(seen @ w["near"].flatten(0, 1) + w["near_bias"], scale["near"])
            seen = torch.cat([near, pad(near, (0, 0, TAPS, 0))[:, :t]], -1)
            far = integer.requantize(seen @ w["far"].flatten(0, 1) + w["far_bias"], scale["far"])
            sizes = np.diff(self.tensors["blocks"]).tolist()
            blocks = zip(torch.split(far, sizes, -1), torch.split(w["context"], sizes), strict=True)
            sums = torch.stack([units @ weights for units, weights in blocks], 2).cumsum(2)
            sums = sums.repeat_interleave(self.stages_per_layer, 2)[:, :, : self.stages] + w["hidden_bias"]
            added = torch.einsum("btsc,sch->btsh", chosen, w["history"]).cumsum(2)[:, :, :-1]
            sums[:, :, 1:] += added * 2.0**lift_history
            hidden = integer.requantize(sums, scale["context"])
            logits = torch.einsum("btsh,shc->btsc", hidden, w["out"]) + w["out_bias"]
            logits += torch.einsum("btsc,scd->btsd", chosen, w["siblings"]) * 2.0**lift_siblings
            shift = scale["out"] + integer.ACTIVATION_BITS - integer.LOGIT_BITS
            units = torch.floor(logits[:, :, :n] * 2.0**-shift).long()
        return torch.unflatten(units, -1, (len(self.levels), self.depth))

    def frequencies(self, tokens: NDArray[np.integer]) -> range_coder.Frequencies:
        """Rows int32 (B, T, n, d, L) for tokens (B, T, n ≤ stages) of packets of T frames each."""
        digits = torch.from_numpy(self._digits(tokens)).to(self._float["embed"].device)
        logits = self.logits(digits).cpu()
        rows = integer.frequencies(logits, self._possible, torch.from_numpy(self.tensors["weights"]))
        found: range_coder.Frequencies = rows.int().numpy()
        return found

    def encode_layers(self, tokens: NDArray[np.integer], stages_per_layer: int, tail: int = 0) -> list[bytes]:
        """Messages of the layers of one packet's tokens (T, n), the last stage of the last `tail` frames left
        out.

        Raises:
            BitstreamError: the network was made for layers of other sizes.
        """
        self._check_layers(stages_per_layer)
        return self._messages(tokens, self._edges(tokens.shape[-1]), tail)

    def encode_whole(self, tokens: NDArray[np.integer], past: NDArray[np.integer] | None = None) -> bytes:
        """One message of all stages of one packet's tokens (T, n); the decoder knows those `past` (t, n)
        before them."""
        known = tokens[:0] if past is None else past[-REACH:]
        edges = [(0, tokens.shape[-1])]
        return self._messages(np.concatenate([known, tokens]), edges, known=len(known))[0]

    def _messages(
        self, tokens: NDArray[np.integer], edges: list[tuple[int, int]], tail: int = 0, known: int = 0
    ) -> list[bytes]:
        kept = np.ones(tokens.shape, bool)
        kept[len(kept) - tail :, -1:] = False
        kept[:known] = False
        # What follows sees the middle cells in place of what is left out at the end.
        tokens = tokens.copy()
        tokens[len(kept) - tail :, -1:] = mixed_radix.pack(self.levels // 2, self.radix)
        rows = self.frequencies(tokens[None])[0]
        digits = self._digits(tokens[None])[0].astype(np.int32)
        return [
            range_coder.encode(
                digits[:, a:b][kept[:, a:b]].ravel(), rows[:, a:b][kept[:, a:b]].reshape(-1, self.depth)
            )
            for a, b in edges
        ]

    def bits(self, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
        """Ideal code lengths of one packet's tokens (T, n): bits (T, n)."""
        rows = self.frequencies(tokens[None])[0]
        digits = self._digits(tokens[None])[0]
        chosen = np.take_along_axis(rows, digits[..., None], -1)
        lengths: NDArray[np.float64] = -np.log2(chosen / range_coder.TOTAL).sum((2, 3))
        return lengths

    def _digits(self, tokens: NDArray[np.integer]) -> NDArray[np.int64]:
        digits: NDArray[np.int64] = mixed_radix.unpack(tokens, self.radix, self.levels).astype(np.int64)
        return digits

    def _edges(self, stages: int) -> list[tuple[int, int]]:
        return [(a, min(a + self.stages_per_layer, stages)) for a in range(0, stages, self.stages_per_layer)]

    def _check_layers(self, stages_per_layer: int) -> None:
        if stages_per_layer != self.stages_per_layer:
            raise BitstreamError(
                f"layers of {stages_per_layer} stages, the prior has {self.stages_per_layer}"
            )

    # digit by digit

    def decode_layers(
        self, messages: Sequence[bytes], frames: int, stages: int, stages_per_layer: int, tail: int = 0
    ) -> NDArray[np.int32]:
        """Tokens int32 (frames, stages) of the first layers of a packet; inverse of `encode_layers`.

        Raises:
            BitstreamError: no encoder wrote these messages, or their layers are of other sizes.
        """
        self._check_layers(stages_per_layer)
        return self._decode(messages, frames, stages, tail)

    def decode_whole(
        self, message: bytes, frames: int, stages: int, past: NDArray[np.integer] | None = None
    ) -> NDArray[np.int32]:
        """Tokens int32 (frames, stages) of a packet; inverse of `encode_whole`.

        Raises:
            BitstreamError: no encoder wrote this message.
        """
        return self._decode([message], frames, stages, past=past)

    def _decode(
        self,
        messages: Sequence[bytes],
        frames: int,
        stages: int,
        tail: int = 0,
        past: NDArray[np.integer] | None = None,
    ) -> NDArray[np.int32]:
        # The coder starts with 8 bytes and reads zeros beyond the end.
        padded = [m + bytes(8 - min(8, len(m))) + bytes(-len(m) % 4) for m in messages]
        data = np.frombuffer(b"".join(padded), np.uint8)
        ends = np.cumsum([0, *map(len, padded)])
        digits, known = np.tile(self.levels // 2, (frames, stages, 1)), 0
        if past is not None:
            digits = np.concatenate([self._digits(past[-REACH:]), digits])
            known = len(digits) - frames
        layout = self.levels, self.stages_per_layer
        if not decode(self._loops, *layout, data, ends, digits, tail, known):
            raise BitstreamError("entropy-coded data that no encoder wrote")
        tokens: NDArray[np.int32] = mixed_radix.pack(digits[known:], self.radix).astype(np.int32)
        return tokens
