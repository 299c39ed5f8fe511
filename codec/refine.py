"""Whole pieces of sound with the tokens of `fsqcodec.audio.search`, within a bitrate if one is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .audio.search import Search
from .errors import ModelError
from .streaming import History

if TYPE_CHECKING:
    from .codec import Codec, Encoded
    from .media import Samples

EFFORT = 16
"""Steps of the search that are taken unasked, about as long as the sound takes on one slow thread."""
PATIENCE = 60.0
"""Seconds of sound up to which they are."""
_WEIGHTS = (12.0, 0.6)
"""λ of files of one pass over the channels at most, and of those of all stages; geometric in between."""
_ROOM = 0.975
"""Share of the bitrate that stages may take without the search, which spends two or three bits more in a hundred."""
_CORRECTIONS = 1
"""Further searches, of half as many steps and at three times the λ, while the file is too large."""


def automatic_effort(codec: Codec, seconds: float) -> int:
    """Steps of the search for a sound of so many seconds where nobody asks for more or less."""
    return EFFORT if codec.prior and seconds <= PATIENCE else 0


def refine(
    codec: Codec, encoded: Encoded, signals: Samples, steps: int, kbps: float | None, packet_seconds: float,
    advance: Callable[[float], None] = lambda _: None,
) -> Encoded:  # fmt: skip
    """The same sound in better tokens.

    Args:
        codec: the model; it has a prior.
        encoded: the tokens that the encoder gave, of all stages or of as many as there shall be at most.
        signals: what they are made of, (streams, n) at the model's rate.
        steps: of the search.
        kbps: keep as many stages as fit into this average bitrate of a file with packets of `packet_seconds`, at least one.
        advance: told of seconds of sound that were gone through.

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
    stages, once = encoded.tokens.shape[1], codec.model.quantizer.groups
    share = max(0, stages - once) / max(1, codec.stages - once)
    weight = _WEIGHTS[0] ** (1 - share) * _WEIGHTS[1] ** share
    searches = [Search(codec.model, prior, stages) for _ in signals]
    starts = [packet.start for packet in codec.split(encoded, frames) if packet.stream == 0]
    edges = [*starts, encoded.tokens.shape[2]]
    places = [
        [search.positions(part) for part in _latents(codec, signal, edges)]
        for search, signal in zip(searches, signals, strict=True)
    ]
    for count in (steps, *[max(1, steps // 2)] * _CORRECTIONS):
        for search, signal, stretches in zip(searches, signals, places, strict=True):
            history = History()
            for i, target in enumerate(_targets(codec, signal, edges)):
                stretches[i] = search.improve(stretches[i], target, history, count, weight)
                with torch.inference_mode():
                    search.decode(stretches[i], history)
                advance(len(target) / codec.sample_rate)
        tokens = [
            torch.cat([search.tokens(part) for part in stretches]).T.numpy()
            for search, stretches in zip(searches, places, strict=True)
        ]
        encoded = replace(encoded, tokens=np.stack(tokens).astype(encoded.tokens.dtype))
        if kbps is None or len(codec.to_bytes(encoded, packet_seconds)) <= kbps * 125 * encoded.seconds:
            break
        weight *= 3
    return codec.limit(encoded, kbps=kbps, packet_seconds=packet_seconds)


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
