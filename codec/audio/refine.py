"""Whole pieces of sound with the tokens of `fsqcodec.audio.search`, within a bitrate if one is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from ..nn.stream_state import History
from .search import Search

if TYPE_CHECKING:
    from ..media.audio import Samples
    from .codec import Codec
    from .tokens import Encoded

EFFORT = 32
"""Steps of the search that are taken unasked; more bring little more."""
PATIENCE = 60.0
"""Seconds of sound up to which half of them are, about a minute's work for one slow thread; all of them up to half of it."""
_WEIGHTS = (12.0, 0.2)
"""λ of files of one pass over the channels at most, and of those of all stages; geometric in between."""
_ROOM = 0.98
"""Share of the bitrate that stages may take before the search, which spends about two bits more in a hundred."""


class Watch(Protocol):
    """Is told how work gets on."""

    def start(self, name: str, total: float | None) -> None:
        """Work begins on so many seconds of sound; None when that is not known."""

    def advance(self, done: float) -> None:
        """So many more seconds are done."""


def automatic_effort(codec: Codec, seconds: float) -> int:
    """Steps of the search for a sound of so many seconds where nobody asks for more or less."""
    if not codec.prior or seconds > PATIENCE:
        return 0
    return min(EFFORT, int(EFFORT / 2 * PATIENCE / max(seconds, 1.0)))


def refine(
    codec: Codec, encoded: Encoded, signals: Samples, steps: int, kbps: float | None, packet_seconds: float,
    watch: Watch | None = None, name: str = "sound",
) -> Encoded:  # fmt: skip
    """The same sound in better tokens.

    Args:
        codec: the model; it has a prior.
        encoded: the tokens that the encoder gave, of all stages or of as many as there shall be at most.
        signals: what they are made of, (streams, n) at the model's rate.
        steps: of the search.
        kbps: keep as many stages as fit into this average bitrate of a file with packets of `packet_seconds`.
        watch: told of seconds of sound that were gone through.
        name: what it calls the sound.

    Raises:
        ModelError: the model has no prior.
    """
    prior = codec.prior
    if prior is None:
        raise ModelError(
            f"{codec.name}: has no prior, which a search for better tokens needs; encode with effort 0"
        )
    frames = codec.packet_frames(packet_seconds)
    room = None if kbps is None else kbps * _ROOM
    encoded = codec.limit(encoded, kbps=room, packet_seconds=packet_seconds)
    if not encoded.tokens.size:
        return encoded
    if watch:
        watch.start(f"{name}, search", encoded.seconds * len(signals))
    packets = list(encoded.split(frames))
    edges = [packet.start for packet in packets if packet.stream == 0] + [encoded.tokens.shape[2]]
    sources = [
        zip(_latents(codec, signal, edges), _targets(codec, signal, edges), strict=True) for signal in signals
    ]
    histories = [History() for _ in signals]
    tokens, draws = encoded.tokens.copy(), torch.Generator().manual_seed(0)
    for packet in packets:
        latents, target = next(sources[packet.stream])
        history = histories[packet.stream]
        kept = packet.kept()
        search = Search(codec.model, prior, torch.from_numpy(kept), draws)
        positions = search.positions(latents)
        positions = search.improve(positions, target, history, steps, _weight(codec, float(kept.mean())))
        with torch.inference_mode():
            search.decode(positions, history)
        tokens[packet.stream, : search.stages, packet.start :][:, : len(kept)] = search.tokens(positions).T
        if watch:
            watch.advance(len(target) / codec.sample_rate)
    return codec.limit(replace(encoded, tokens=tokens), kbps=kbps, packet_seconds=packet_seconds)


def _weight(codec: Codec, stages: float) -> float:
    """λ where so many stages are written."""
    share = float(codec.model.quantizer.refinement(torch.tensor(stages, dtype=torch.float64)))
    return float(_WEIGHTS[0] ** (1 - share) * _WEIGHTS[1] ** share)


def _latents(codec: Codec, signal: Samples, edges: list[int]) -> Iterator[Tensor]:
    """The encoder's latents (T, D) of every stretch between edges."""
    history, frame = History(), codec.model.config.frame
    padded = _padded(signal, 0, edges[-1] * frame)
    for first, last in pairwise(edges):
        with torch.inference_mode():
            found = codec.model.encoder(padded[None, first * frame : last * frame], history)[0]
        yield found.clone()


def _targets(codec: Codec, signal: Samples, edges: list[int]) -> Iterator[Tensor]:
    """What the decoder should give for every stretch: samples (T·frame,), late as its own are."""
    frame = codec.model.config.frame
    padded = _padded(signal, codec.model.config.lag, edges[-1] * frame)
    for first, last in pairwise(edges):
        yield padded[first * frame : last * frame]


def _padded(signal: Samples, before: int, length: int) -> Tensor:
    """Samples (length,) with silence in front and behind."""
    padded = np.zeros(length, np.float32)
    kept = signal[: length - before]
    padded[before : before + len(kept)] = kept
    return torch.from_numpy(padded)
