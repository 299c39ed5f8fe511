"""Rate-distortion optimisation at the encoder: better tokens for whole pieces of sound, within a bitrate if one is given.

The search itself is `fsqcodec.audio.annealing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from ..media.audio import Samples
from ..nn.stream_state import History
from ..progress import Progress
from .annealing import Search
from .bitstream import AudioBitstream
from .model import AudioModel
from .prior import Prior
from .rate_control import limit
from .tokens import Encoded

EFFORT = 32
"""Steps of the search that are taken unasked; more bring little more."""
PATIENCE = 60.0
"""Seconds of sound up to which half of them are, about a minute's work for one slow thread; all of them up to half of it."""
_WEIGHTS = (12.0, 0.2)
"""λ of files of one pass over the channels at most, and of those of all stages; geometric in between."""
_ROOM = 0.98
"""Share of the bitrate that stages may take before the search, which spends about two bits more in a hundred."""


@dataclass(frozen=True)
class Effort:
    """How long the search may take: steps, or None for as many as the length of the sound allows."""

    steps: int | None

    @property
    def longest(self) -> float:
        """Seconds of sound up to which there may be a search."""
        if self.steps is None:
            return PATIENCE
        return float("inf") if self.steps else 0.0

    def resolve(self, seconds: float, prior: Prior | None, model: str) -> int:
        """Steps of the search for a sound of so many seconds, by a model of this name.

        Raises:
            ModelError: steps are asked of a model without a prior.
        """
        if prior is None:
            if self.steps:
                raise ModelError(
                    f"{model}: has no prior, which a search for better tokens needs; encode with effort 0"
                )
            return 0
        if self.steps is not None:
            return self.steps
        return 0 if seconds > PATIENCE else min(EFFORT, int(EFFORT / 2 * PATIENCE / max(seconds, 1.0)))


def optimise(
    model: AudioModel,
    prior: Prior,
    bitstream: AudioBitstream,
    encoded: Encoded,
    signals: Samples,
    steps: int,
    kbps: float | None,
    packet_seconds: float,
    progress: Progress | None = None,
    name: str = "sound",
) -> Encoded:
    """The same sound in better tokens.

    Args:
        model: the networks.
        prior: tells the bits.
        bitstream: writes the file, of which every byte counts.
        encoded: the tokens that the encoder gave, of all stages or of as many as there shall be at most.
        signals: what they are made of, (streams, n) at the model's rate.
        steps: of the search.
        kbps: keep as many stages as fit into this average bitrate of a file with packets of `packet_seconds`.
        packet_seconds: length of a packet.
        progress: told of seconds of sound that were gone through.
        name: what it calls the sound.
    """
    frames = bitstream.packet_frames(packet_seconds)
    room = None if kbps is None else kbps * _ROOM
    encoded = limit(encoded, bitstream, kbps=room, packet_seconds=packet_seconds)
    if not encoded.tokens.size:
        return encoded
    if progress:
        progress.start(f"{name}, search", encoded.seconds * len(signals))
    packets = list(encoded.split(frames))
    edges = [packet.start for packet in packets if packet.stream == 0] + [encoded.tokens.shape[2]]
    sources = [
        zip(_latents(model, signal, edges), _targets(model, signal, edges), strict=True) for signal in signals
    ]
    histories = [History() for _ in signals]
    tokens, draws = encoded.tokens.copy(), torch.Generator().manual_seed(0)
    for packet in packets:
        latents, target = next(sources[packet.stream])
        history = histories[packet.stream]
        kept = packet.kept()
        search = Search(model, prior, torch.from_numpy(kept), draws)
        positions = search.positions(latents)
        positions = search.improve(positions, target, history, steps, _weight(model, float(kept.mean())))
        with torch.inference_mode():
            search.decode(positions, history)
        tokens[packet.stream, : search.stages, packet.start :][:, : len(kept)] = search.tokens(positions).T
        if progress:
            progress.advance(len(target) / model.config.sample_rate)
    return limit(replace(encoded, tokens=tokens), bitstream, kbps=kbps, packet_seconds=packet_seconds)


def _weight(model: AudioModel, stages: float) -> float:
    """λ where so many stages are written."""
    share = float(model.quantizer.refinement(torch.tensor(stages, dtype=torch.float64)))
    return float(_WEIGHTS[0] ** (1 - share) * _WEIGHTS[1] ** share)


def _latents(model: AudioModel, signal: Samples, edges: list[int]) -> Iterator[Tensor]:
    """The encoder's latents (T, D) of every stretch between edges."""
    history, frame = History(), model.config.frame
    padded = _padded(signal, 0, edges[-1] * frame)
    for first, last in pairwise(edges):
        with torch.inference_mode():
            found = model.encoder(padded[None, first * frame : last * frame], history)[0]
        yield found.clone()


def _targets(model: AudioModel, signal: Samples, edges: list[int]) -> Iterator[Tensor]:
    """What the decoder should give for every stretch: samples (T·frame,), late as its own are."""
    frame = model.config.frame
    padded = _padded(signal, model.config.lag, edges[-1] * frame)
    for first, last in pairwise(edges):
        yield padded[first * frame : last * frame]


def _padded(signal: Samples, before: int, length: int) -> Tensor:
    """Samples (length,) with silence in front and behind."""
    padded = np.zeros(length, np.float32)
    kept = signal[: length - before]
    padded[before : before + len(kept)] = kept
    return torch.from_numpy(padded)
