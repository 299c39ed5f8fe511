"""A stretch of a video: which groups, frames and samples lie in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from ..bitstream.packet import Packet
from ..media.audio import AudioFacts, Samples
from ..media.video_reader import Frame
from .header import side_of


class Part:
    """A stretch of a film, `start` seconds after its first frame, `duration` long."""

    def __init__(self, start: float, duration: float | None, tick: Fraction) -> None:
        self.whole = not start and duration is None
        self.start, self.end = start, float("inf") if duration is None else start + duration
        self._tick = tick
        self.origin: int | None = None
        """Time of the film's first frame, in ticks."""

    def compare(self, packet: Packet) -> int:
        """-1 when a group ends before the part begins, 1 when it begins after its end, otherwise 0.

        Raises:
            BitstreamError: its times cannot be read.
        """
        if self.whole:
            return 0
        times = side_of(packet).times
        self.origin = times[0] if self.origin is None else self.origin
        first, last = (float((time - self.origin) * self._tick) for time in (times[0], times[-1]))
        return -1 if last < self.start else int(first >= self.end)

    def within(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Those of the frames that lie in the part, their times from its beginning on."""
        if self.whole:
            yield from frames
            return
        assert self.origin is not None
        begin = self.origin + round(Fraction(self.start) / self._tick)
        for frame in frames:
            if begin <= frame.time and (frame.time - self.origin) * self._tick < self.end:
                yield replace(frame, time=frame.time - begin)

    def cut(self, facts: AudioFacts, blocks: Iterator[Samples]) -> Iterator[Samples]:
        """The part of blocks of samples that begin with the film."""
        at, begin = 0, round(self.start * facts.sample_rate)
        end = None if self.end == float("inf") else round(self.end * facts.sample_rate)
        for block in blocks:
            piece = block[:, max(0, begin - at) : None if end is None else max(0, end - at)]
            at += block.shape[1]
            if piece.shape[1]:
                yield piece
            if end is not None and at >= end:
                return

    def holds(self, seconds: float) -> bool:
        """Whether a time of the whole video lies in the part."""
        return self.whole or self.start <= seconds < self.end
