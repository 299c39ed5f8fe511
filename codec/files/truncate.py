"""A lower bitrate without running a network: layers are left out, and what else a file holds stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import IO

from ..bitstream.reader import Reader
from ..bitstream.stats import file_stats
from ..bitstream.writer import Writer


@dataclass(frozen=True)
class Truncation:
    """Which layers of a file are within a bitrate."""

    layers: int
    """How many are kept; at least those with the first stage."""
    stages: int
    """Those in the layers."""
    kbps: float
    """What the file takes then."""
    missing: str = ""
    """What of the source could not be read; empty where all was there."""


def within(file: IO[bytes], name: str, kbps: float, keep_going: bool = False) -> Truncation:
    """What of a file is within an average bitrate; its position is left where it was.

    Raises:
        BitstreamError: it is damaged, unless `keep_going`.
    """
    start = file.tell()
    stats = file_stats(Reader(file, name, keep_going))
    file.seek(start)
    layers = stats.layers_within(kbps)
    return Truncation(layers, stats.header.stages_of(layers), stats.kbps(stats.size(layers)))


def peel(file: IO[bytes], name: str, target: IO[bytes], kbps: float) -> Truncation:
    """Write the layers of a file that are within an average bitrate.

    Raises:
        BitstreamError: it is damaged.
    """
    kept = within(file, name, kbps)
    reader = Reader(file, name)
    header = reader.header
    writer = Writer(target, header.peeled(kept.layers))
    for packet in reader:
        writer.write(packet.peel(kept.layers) if header.scalable(packet.stream) else packet)
    if reader.complete:
        writer.finish()
    return replace(kept, missing=f"{name}: {reader.missing}" if reader.missing else "")
