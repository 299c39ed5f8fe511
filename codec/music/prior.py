"""The prior of the music model in integers: `fsqcodec.train.music.prior_network`, exported.

Weights are int8, activations 0 ... 127; products run on float carriers that hold whole numbers
(`fsqcodec.entropy.integer`). Latents are told frame after frame in four groups of eight, each predicted by two frames
before and the groups before. Scales of the bands follow from the latents; rows of the table of magnitudes from scales
and magnitudes (`kernel`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..entropy import integer, range_coder
from ..entropy.kernels import frequency_rows
from ..errors import BitstreamError, ModelError
from .bands import BANDS, SLOTS
from .kernel import TOLD, Theta

GROUPS = 4
PAST = 4
"""Frames whose latents tell the scales."""
KNOB_STEP, LEAST_KNOB, KNOBS = 0.75, -32.0, 64
"""Knobs in dB are LEAST_KNOB + KNOB_STEP · index."""
HINGES = 4
LATENT_INPUT_BITS, SCALE_INPUT_BITS = 6, 4
ROWS, SYMBOLS = 64, 16
Integers = NDArray[np.int32]
_TYPES = np.array(((237, 12, 7), (191, 39, 26), (164, 55, 37)), np.int32) * (range_coder.TOTAL >> 8)
"""Frequencies of block types by the frame before."""


def knob_of(index: int) -> float:
    """Decibels of a knob's index."""
    return LEAST_KNOB + KNOB_STEP * index


def merged(slots: Tensor, types: Tensor) -> Tensor:
    """Four times the means over the slots of a block: (frames, 2, 4, 27) of whole numbers, types (frames,)."""
    kind = types[:, None, None, None]
    halves = 2 * slots.unflatten(-2, (2, 2)).sum(-2).repeat_interleave(2, -2)
    whole = slots.sum(-2, keepdim=True)
    return torch.where(kind == 0, whole, torch.where(kind == 1, halves, 4 * slots))


class MusicPrior:
    """Code lengths that are the same everywhere.

    Args:
        tensors: as `fsqcodec.train.music.prior_network.PriorNetwork.export` makes them.
        finalise: compute the known answer, for tensors that were just made.

    Raises:
        ModelError: tensors could overflow, or do not give the known answer.
    """

    def __init__(self, tensors: dict[str, NDArray[np.integer]], finalise: bool = False) -> None:
        if finalise:
            tensors = {**tensors, "answer": np.zeros(32, np.uint8)}
        self.tensors = tensors
        inputs, self.hidden = tensors["latents_out"].shape[0], tensors["latents_out"].shape[1]
        assert inputs == GROUPS
        self.levels = tensors["latents_out"].shape[2] * GROUPS // self.latents
        self._float = {k: torch.from_numpy(v.astype(np.float32)) for k, v in tensors.items()}
        self._check()
        scales = tensors["scales"].tolist()
        self._latents_first, self._latents_out, self._first, self._mix, self._out, theta_first, theta_out = (
            scales
        )
        self.theta = Theta(
            tensors["theta_first"],
            tensors["theta_bias"],
            tensors["theta_out"][:, 0],
            int(tensors["theta_out_bias"][0]),
            (theta_first + 9 - integer.ACTIVATION_BITS, theta_out),
            tensors["table"].astype(np.int32),
        )
        answer = self._answer()
        if finalise:
            tensors["answer"] = np.frombuffer(answer, np.uint8)
        if answer != tensors["answer"].tobytes():
            raise ModelError("prior: does not give its known answer; the model file is damaged or altered")
        self.hash = answer[:4]

    @property
    def latents(self) -> int:
        """Latents of a frame."""
        return (len(self.tensors["latents_first"]) - HINGES) // 3

    def _check(self) -> None:
        """No sum can pass what the carrier holds exactly.

        Raises:
            ModelError: one could.
        """
        found = {k: np.abs(v.astype(np.int64)) for k, v in self.tensors.items()}
        most = self.levels // 2
        bounds = (
            found["latents_first"].sum(0) * 16 * most + found["latents_bias"],
            found["latents_out"].sum(1) * integer.ACTIVATION + found["latents_out_bias"],
            found["scales_first"].sum(0) * 4 * most * 4 + found["scales_bias"],
            found["scales_mix"].sum(0) * integer.ACTIVATION + found["scales_mix_bias"],
            (found["scales_out"].sum(0) * integer.ACTIVATION + found["scales_out_bias"]),
            found["theta_first"].sum(0) * 1024 + found["theta_bias"],
        )
        if (bound := max(int(part.max()) for part in bounds)) > integer.LIMIT:
            raise ModelError(f"prior: sums may reach {bound}, more than {integer.LIMIT}")
        if self.tensors["theta_first"].shape[0] != TOLD:
            raise ModelError("prior: tensors of another shape")
        try:
            range_coder.check_frequencies(self.tensors["table"])
        except ValueError as error:
            raise ModelError(f"prior: {error}") from None

    def _answer(self) -> bytes:
        """Fingerprint, with scales, logits and rows of made-up latents and integers."""
        count = torch.arange(5 * self.latents)
        made = ((count * count * 40503 + count * 30011) >> 7) % self.levels - self.levels // 2
        latents = made.unflatten(0, (5, -1)).float()
        types = torch.tensor((0, 2, 1, 0, 2))
        scales = self.log_scales(latents, types, 30)
        place = np.arange(5 * 2 * 800, dtype=np.int64).reshape(5, 2, 800)
        integers = ((place * place * 40503 >> 9) % 5 - 2).astype(np.int32)
        rows, _ = self.theta.rows(integers, types.numpy().astype(np.uint8), scales)
        logits = self._latent_logits(latents, 30)
        all_of_it = (logits.flatten(), torch.from_numpy(scales).flatten(), torch.from_numpy(rows).flatten())
        return integer.fingerprint(self.tensors, torch.cat([part.long() for part in all_of_it]))

    # networks

    def _latent_logits(self, latents: Tensor, knob: int) -> Tensor:
        """Logits int32 (frames, 32, levels) in 2^-6 nats of latents, float32 (frames, 32) of whole numbers."""
        with integer.exact_products():
            seen = torch.cat((_past(latents, 3)[:, : 2 * self.latents], latents), -1) * 16
            seen = torch.cat((seen, _hinges(knob).expand(len(latents), -1)), -1)
            sums = seen @ self._float["latents_first"] + self._float["latents_bias"]
            units = integer.requantize(
                sums, self._latents_first + LATENT_INPUT_BITS - integer.ACTIVATION_BITS
            )
            return (
                self._group_logits(units.unflatten(-1, (GROUPS, -1)).transpose(0, 1))
                .transpose(0, 1)
                .flatten(1, 2)
            )

    def _group_logits(self, units: Tensor) -> Tensor:
        """Logits int32 (groups, frames, 8, levels) of hidden units (groups, frames, hidden)."""
        logits = units @ self._float["latents_out"] + self._float["latents_out_bias"][:, None]
        shift = self._latents_out + integer.ACTIVATION_BITS - integer.LOGIT_BITS
        return torch.unflatten(torch.floor(logits * 2.0**-shift).int(), -1, (-1, self.levels))

    def log_scales(self, latents: Tensor, types: Tensor, knob: int) -> Integers:
        """Log scales in eighths of a row, int32 (frames, 2, 4, 27).

        Args:
            latents: whole numbers, float32 (frames, 32).
            types: int64 (frames,).
            knob: index.
        """
        w = self._float
        with integer.exact_products():
            kinds = torch.nn.functional.one_hot(types, 3).float() * 16
            seen = torch.cat(
                (_past(latents, PAST) * 4, _past(kinds, 2), _hinges(knob).expand(len(latents), -1)), -1
            )
            sums = seen @ w["scales_first"] + w["scales_bias"]
            units = integer.requantize(sums, self._first + SCALE_INPUT_BITS - integer.ACTIVATION_BITS)
            units = integer.requantize(units @ w["scales_mix"] + w["scales_mix_bias"], self._mix)
            found = (units @ w["scales_out"] + w["scales_out_bias"]).long()
        base, detail = found.unflatten(-1, (1 + SLOTS, 2, BANDS)).movedim(-3, -2).split((1, SLOTS), -2)
        sums = 4 * 12 * base + 6 * merged(detail, types)
        scales: Integers = ((2 * sums) >> (self._out + integer.ACTIVATION_BITS)).int().numpy()
        return scales

    # coding

    def encode_side(self, latents: Integers, types: NDArray[np.uint8], knob: int) -> bytes:
        """Message of a packet's side information: the knob's index, block types (frames,), latents (frames, 32)."""
        coder = range_coder.encoder()
        kinds = types.astype(np.int32)
        coder.push(kinds, _TYPES[np.concatenate(([0], kinds[:-1]))])
        logits = self._latent_logits(torch.from_numpy(latents).float(), knob)
        rows = frequency_rows(logits.flatten(0, 1).numpy(), self.tensors["weights"])
        coder.push((latents + self.levels // 2).flatten(), rows)
        return bytes([knob]) + coder.finish()

    def decode_side(self, message: bytes, frames: int) -> tuple[Integers, NDArray[np.uint8], int]:
        """Latents, block types and the knob's index; inverse of `encode_side`.

        Raises:
            BitstreamError: no encoder wrote it.
        """
        if not message or message[0] >= KNOBS:
            raise BitstreamError("side information that no encoder wrote")
        knob, decoder = message[0], range_coder.decoder(message[1:])
        types = np.zeros(frames, np.int32)
        for frame in range(frames):
            types[frame] = decoder.pull(_TYPES[types[frame - 1] if frame else 0][None])[0]
        return self._pull_latents(decoder, frames, knob), types.astype(np.uint8), knob

    def _pull_latents(
        self, decoder: range_coder.Decoder | range_coder.ReferenceDecoder, frames: int, knob: int
    ) -> Integers:
        w = self._float
        size, group = self.latents, self.latents // GROUPS
        latents = torch.zeros(frames + 2, size)
        with integer.exact_products():
            first = w["latents_first"].unflatten(1, (GROUPS, -1))
            about = _hinges(knob) @ w["latents_first"][3 * size :] + w["latents_bias"]
            for frame in range(2, frames + 2):
                seen = latents[frame - 2 : frame].flatten() * 16
                sums = (seen @ w["latents_first"][: 2 * size] + about).unflatten(0, (GROUPS, -1))
                for number in range(GROUPS):
                    shift = self._latents_first + LATENT_INPUT_BITS - integer.ACTIVATION_BITS
                    units = torch.zeros(GROUPS, 1, self.hidden)
                    units[number, 0] = integer.requantize(sums[number], shift)
                    logits = self._group_logits(units)[number, 0]
                    rows = frequency_rows(logits.numpy(), self.tensors["weights"])
                    found = torch.from_numpy(decoder.pull(rows)) - self.levels // 2
                    own = slice(number * group, (number + 1) * group)
                    latents[frame, own] = found.float()
                    told = first[2 * size + number * group : 2 * size + (number + 1) * group]
                    sums = sums + torch.einsum("i,igh->gh", found.float() * 16, told)
        return latents[2:].int().numpy()

    def encode_integers(
        self, integers: Integers, types: NDArray[np.uint8], scales: Integers
    ) -> tuple[bytes, bytes]:
        """Message of the magnitudes of integers (frames, 2, 800), and raw bits of signs and of what is above the table."""
        rows, _ = self.theta.rows(integers, types, scales)
        order = _order(types)
        rows, values = rows.reshape(len(rows), -1)[:, None], integers.reshape(len(rows), -1)[:, None]
        rows = np.take_along_axis(rows[:, 0], order, 1).ravel()
        values = np.take_along_axis(values[:, 0], order, 1).ravel()
        values, rows = values[rows >= 0], rows[rows >= 0]
        sizes = np.abs(values)
        message = range_coder.encode(
            np.minimum(sizes, SYMBOLS - 1).astype(np.int32), self.theta.frequencies[rows]
        )
        return message, _raw(values[sizes > 0])

    def decode_integers(
        self, message: bytes, raw: bytes, types: NDArray[np.uint8], scales: Integers
    ) -> Integers:
        """Integers, int32 (frames, 2, 800); inverse of `encode_integers`.

        Raises:
            BitstreamError: no encoder wrote these.
        """
        try:
            return self.theta.decode(message, raw, types, scales)
        except ValueError as error:
            raise BitstreamError(str(error)) from None


def _raw(values: Integers) -> bytes:
    """Signs of values that are not zero, before each the Elias gamma code of what is above the table."""
    text = []
    for value in values.tolist():
        if abs(value) >= SYMBOLS - 1:
            rest = abs(value) - SYMBOLS + 2
            text.append("0" * (rest.bit_length() - 1) + f"{rest:b}")
        text.append("1" if value < 0 else "0")
    bits = "".join(text)
    return int(bits + "0" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big") if bits else b""


def _order(types: NDArray[np.uint8]) -> NDArray[np.int64]:
    """In which order the integers of each frame are coded, (frames, 1600): blocks, then channels, then frequency."""
    orders = []
    for blocks in (1, 2, 4):
        place = np.arange(2 * 800).reshape(2, 800 // blocks, blocks)
        orders.append(place.transpose(2, 0, 1).ravel())
    return np.stack(orders)[types]


def _past(x: Tensor, frames: int) -> Tensor:
    padded = torch.nn.functional.pad(x, (0, 0, frames - 1, 0))
    return torch.cat([padded[k : k + len(x)] for k in range(frames)], -1)


def _hinges(knob: int) -> Tensor:
    """The knob as four ramps of sixteenths, float32 (4,)."""
    return (torch.tensor(float(knob)) - torch.tensor((0.0, 16.0, 32.0, 48.0))).clamp(0, 16)
