"""Tokens of a piece of audio, and how they fall into packets."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

STAGES_PER_LAYER = 3


class StereoRun(NamedTuple):
    """How two channels are coded from a latent frame on."""

    start: int
    """The frame."""
    mid_side: bool
    """As (left + right) / 2 and (left - right) / 2; otherwise each by itself."""


def stereo_runs(rows: Iterable[Iterable[int]]) -> tuple[StereoRun, ...]:
    """Runs as JSON gives them back: pairs of frame and mode.

    Raises:
        ValueError: they are none, or out of order.
    """
    runs = tuple(StereoRun(int(start), bool(mode)) for start, mode in rows)
    starts = [run.start for run in runs]
    if starts[:1] not in ([], [0]) or starts != sorted(set(starts)):
        raise ValueError(f"runs of stereo from frames {starts}")
    return runs


@dataclass(frozen=True)
class TokenPacket:
    """Tokens (frames, stages) of a stretch of one stream; fewer stages where layers were left out."""

    stream: int
    start: int
    tokens: NDArray[np.integer]
    tail: int = 0
    """Frames at the end whose last stage was left out; what stands there means nothing."""
    mid_side: bool | None = None
    """Whether two streams are mid and side here; None as the header says."""

    def kept(self) -> NDArray[np.int64]:
        """How many stages each frame has, (frames,)."""
        counts = np.full(len(self.tokens), self.tokens.shape[1])
        counts[len(counts) - self.tail :] -= 1
        return counts


@dataclass(frozen=True)
class Encoded:
    """Tokens of one piece of audio, and what is needed to give back what came in."""

    tokens: NDArray[np.integer]
    """(streams, stages, frames): indices into the implicit codebooks, in 0 … codebook_size - 1."""
    sample_rate: int
    """Hz of the original."""
    samples: int
    """Samples a channel of the original."""
    mid_side: bool = False
    """The two streams are (left + right) / 2 and (left - right) / 2, where `stereo` does not say."""
    tags: dict[str, str] = field(default_factory=dict)
    kept: NDArray[np.integer] | None = None
    """(streams, frames): how many of the stages each frame has, all when None. Where one is left out its
    token means nothing."""
    stereo: tuple[StereoRun, ...] = ()
    """How two channels are coded, run by run, the first from frame 0 on; empty where `mid_side` tells it
    for all."""

    @property
    def seconds(self) -> float:
        """Duration of the original."""
        return self.samples / self.sample_rate

    def prefix(self, stages: int) -> Encoded:
        """The first stages."""
        kept = self.kept
        if kept is not None:
            kept = np.minimum(kept, stages)
            kept = None if (kept == stages).all() else kept
        return replace(self, tokens=self.tokens[:, :stages], kept=kept)

    def thinned(self, stages: int, frames: int, share: float) -> Encoded:
        """The first stages; the last of them only in a share of every packet of about `frames`, from its
        beginning on."""
        kept = np.full((len(self.tokens), self.tokens.shape[2]), stages - 1)
        for start, stop in itertools.pairwise(self.edges(frames)):
            kept[:, start : start + int(share * (stop - start) + 1e-9)] = stages
        if self.kept is not None:
            kept = np.minimum(kept, self.kept)
        return replace(self, kept=kept).prefix(stages)

    def split(self, frames: int) -> Iterator[TokenPacket]:
        """Packets in order of time, the streams of a stretch one after the other.

        A rest of less than a packet goes into the packet before it: a head costs some 14 bytes, and a prior
        that knows nothing yet a few more.

        Raises:
            ValueError: frames keep neither all stages, or all but one, nor those of whole layers.
        """
        for start, stop in itertools.pairwise(self.edges(frames)):
            for stream, tokens in enumerate(self.tokens):
                kept = None if self.kept is None else self.kept[stream, start:stop]
                most = len(tokens) if kept is None else int(kept.max())
                if most == len(tokens) - 1 and most % STAGES_PER_LAYER:
                    most += (
                        1  # a packet of part of a layer is one of all stages whose tail is as long as itself
                    )
                if most < len(tokens) and most % STAGES_PER_LAYER:
                    raise ValueError(f"{most} of {len(tokens)} stages are not whole layers")
                tail = 0 if kept is None else int((kept < most).sum())
                yield TokenPacket(stream, start, tokens[:most, start:stop].T, tail, self._mode(start))

    def _mode(self, frame: int) -> bool | None:
        """How two channels are coded at a frame, where `stereo` tells it."""
        modes = [run.mid_side for run in self.stereo if run.start <= frame]
        return modes[-1] if modes else None

    def edges(self, frames: int) -> list[int]:
        """Latent frames that packets of about `frames` begin with, and the end of the last."""
        total, kept = self.tokens.shape[2], self.kept
        if not total:
            return [0]
        runs = [run.start for run in self.stereo[1:]]
        edges = sorted({*range(0, max(1, total - frames + 1), frames), *runs, total})
        if kept is None:
            return edges
        # Within a packet the last stage may end before the others, and nothing else.
        changes = np.flatnonzero((np.diff(kept, axis=1) != 0).any(0)) + 1
        found = [0]
        for place in sorted({*edges[1:-1], *changes.tolist()}):
            fallen = kept[:, found[-1]] - kept[:, place]
            if place in edges or (kept[:, place] > kept[:, place - 1]).any() or (fallen > 1).any():
                found.append(place)
        return [*found, total]
