"""Tokens of packets: what codes them, and decoding several packets at once."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..bitstream.container import Packet
from ..bitstream.reader import AnyHeader
from ..errors import BitstreamError

STAGES_PER_LAYER = 3


@dataclass(frozen=True)
class TokenPacket:
    """Tokens (frames, stages) of a stretch of one stream; fewer stages where layers were left out."""

    stream: int
    start: int
    tokens: NDArray[np.integer]
    tail: int = 0
    """Frames at the end whose last stage was left out; what stands there means nothing."""

    def kept(self) -> NDArray[np.int64]:
        """How many stages each frame has, (frames,)."""
        counts = np.full(len(self.tokens), self.tokens.shape[1])
        counts[len(counts) - self.tail :] -= 1
        return counts


class TokenCoder(Protocol):
    """What tells the range coder how likely tokens are: `StaticTables` or `Prior`."""

    hash: bytes

    def encode_layers(self, tokens: NDArray[np.integer], stages_per_layer: int, tail: int = 0) -> list[bytes]:
        """Messages of the layers of one packet's tokens (frames, n), the last stage of the last `tail` frames left out."""

    def decode_layers(
        self, messages: Sequence[bytes], frames: int, stages: int, stages_per_layer: int, tail: int = 0
    ) -> NDArray[np.int32]:
        """Tokens int32 (frames, stages) of the first layers of a packet; the middle cell's where one was left out."""

    def encode_whole(self, tokens: NDArray[np.integer], past: NDArray[np.integer] | None = None) -> bytes:
        """One message of all stages of one packet's tokens (frames, n): shorter, but nothing can be left out.

        `past` are tokens (t, n) of the frames before, where the decoder knows them.
        """

    def decode_whole(
        self, message: bytes, frames: int, stages: int, past: NDArray[np.integer] | None = None
    ) -> NDArray[np.int32]:
        """Tokens int32 (frames, stages) of `encode_whole`."""

    def bits(self, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
        """Ideal code lengths of one packet's tokens (frames, n): bits (frames, n)."""


def code_lengths(coder: TokenCoder, packet: TokenPacket) -> NDArray[np.float64]:
    """Ideal code lengths of a packet in bits, (frames, n); 0 where a stage was left out."""
    there = np.arange(packet.tokens.shape[1]) < packet.kept()[:, None]
    return np.where(there, coder.bits(packet.tokens), 0.0)


class PacketSource(Protocol):
    """Packets of a file as they come: a `Reader`, or the sound of one that holds a video."""

    name: str
    lost: int

    @property
    def header(self) -> AnyHeader:
        """What the file says of itself."""

    @property
    def seekable(self) -> bool:
        """Whether it is a file, all of it there, and not a pipe."""

    def error(self, offset: int, what: str, remedy: str = "") -> BitstreamError:
        """An error that names the file, the byte and the remedy."""

    def __iter__(self) -> Iterator[Packet]: ...


def decode_ahead(
    reader: PacketSource, decode: Callable[[Packet], NDArray[np.int32]]
) -> Iterator[tuple[Packet, Callable[[], NDArray[np.int32]]]]:
    """Packets, and how to get their tokens: as many packets as torch has threads are decoded at once.

    From a pipe they are decoded one by one, since the next may be long in coming.
    """
    workers = torch.get_num_threads()
    if workers == 1 or not reader.seekable:
        for packet in reader:
            yield packet, functools.partial(decode, packet)
        return
    waiting: collections.deque[tuple[Packet, Callable[[], NDArray[np.int32]]]] = collections.deque()
    with ThreadPoolExecutor(workers) as pool:
        for packet in reader:
            waiting.append((packet, pool.submit(decode, packet).result))
            if len(waiting) > 2 * workers:
                yield waiting.popleft()
        yield from waiting
