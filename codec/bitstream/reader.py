"""Reading `.fsq` files: from pipes, damaged, truncated or hostile. Every size is checked against a limit before it is used.

After damage the reader looks for the next packet. Most bytes that look like the beginning of one are told from the head
alone; for those that a checksum must tell there is a budget, so that time grows with the file's size and no faster.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from ..errors import BitstreamError
from ..registry import header_of
from .fields import MAX_FIELDS
from .header import DEFLATED, MAGIC, VERSIONS, FileHeader, kind_of
from .header_dictionary import inflate
from .packet import (
    MAX_FRAMES,
    MAX_START,
    PACKET,
    SKIPPABLE,
    SMALLEST_PACKET,
    TAILED,
    TYPED_PACKET,
    Packet,
    PacketHead,
    PacketLimits,
)
from .primitives import Cursor, crc, read_varint
from .writer import END, INDEX, MAX_INDEX, TRAILER

_CRC = 4
"""Bytes of a checksum."""
_MAX_HEAD = 1 << 12
"""Bytes of a packet's head that are looked at before its checksum."""
_KNOWN = bytes([PACKET, TAILED, TYPED_PACKET, INDEX])
_MARKERS = re.compile(b"[%s]" % re.escape(_KNOWN))
"""What is looked for after damage; packets that would be skipped are not."""
_FREE, _SHARE = 1 << 26, 8
"""Bytes that checksums of false packets may take, and how many more for each byte read."""


class _Window:
    """Bytes of a file from a position on."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._data, self._from = file, b"", 0
        self.position = 0
        """Of the first byte in the file."""

    def __len__(self) -> int:
        return len(self._data) - self._from

    def fill(self, size: int) -> bool:
        """Read until so many bytes are there; False where the file ends before."""
        parts, have = [], len(self)
        while have < size:
            data = self._file.read(max(size - have, 1 << 16))
            if not data:
                break
            parts.append(data)
            have += len(data)
        if parts:
            self._data, self._from = b"".join([self._data[self._from :], *parts]), 0
        return have >= size

    def get(self, start: int, end: int) -> bytes:
        """Some of the bytes that are there."""
        return self._data[self._from + start : self._from + end]

    def skip(self, size: int) -> None:
        """Forget the first bytes."""
        self._from += size
        self.position += size

    def find(self, pattern: re.Pattern[bytes]) -> int:
        """Bytes before the next match, at least one; all that are there where there is none."""
        found = pattern.search(self._data, self._from + 1)
        return (found.start() if found else len(self._data)) - self._from

    def seek(self, position: int) -> None:
        """Go on elsewhere in the file."""
        self._file.seek(position)
        self._data, self._from, self.position = b"", 0, position


@dataclass(frozen=True)
class _Found:
    """What is at the reader's position."""

    size: int = 0
    """Bytes of it; 0 where there is nothing intact."""
    packet: Packet | None = None
    problem: str = ""
    """What is wrong."""
    end: bool = False
    """Whether the file ends here."""
    cut: bool = False
    """Whether it ends too early."""


class Reader:
    """Reads the header at once and then packets in order.

    Args:
        file: binary file, a pipe will do.
        name: what errors call it.
        keep_going: skip what is damaged instead of raising; `lost` counts the bytes skipped.

    A file that was cut is read as far as it goes; `missing` says so then.

    Raises:
        BitstreamError: with the name and the byte offset, when something is wrong.
    """

    def __init__(self, file: IO[bytes], name: str = "input", keep_going: bool = False) -> None:
        self._file, self.name, self.keep_going = file, name, keep_going
        self._window = _Window(file)
        self.lost = 0
        self._wasted = 0
        """Bytes of false packets whose checksums were computed."""
        self._first = 0
        self.complete = False
        """Whether nothing is missing behind the last packet: the index was met, or as much as the header tells of."""
        self.missing = ""
        """What is missing at the end of a file that was cut, once all of it was read; empty where nothing is."""
        self.header = self._read_header()

    @property
    def seekable(self) -> bool:
        """Whether it is a file, all of it there, and not a pipe."""
        return self._file.seekable()

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._window.position

    def error(self, offset: int, what: str, remedy: str = "") -> BitstreamError:
        """An error that names the file, the byte and the remedy."""
        return BitstreamError(f"{self.name}: byte {offset}: {what}" + (f"; {remedy}" if remedy else ""))

    def seek(self, frame: int) -> int:
        """Go on with the packets that hold a latent frame and, if there are any, the ones before them.

        A packet early, the decoder's state has settled when the frame comes. Files without a sound index
        and pipes stay where they are.

        Returns:
            the first frame that will be read.
        """
        entries = (read_index(self._file) if self.seekable else None) or [(0, self.position)]
        starts = sorted({start for start, _ in entries if start <= frame})
        self._first = starts[-2] if len(starts) > 1 else 0
        if self._first:
            self._window.seek(next(offset for start, offset in entries if start == self._first))
        return self._first

    def _read_header(self) -> FileHeader:
        window, start = self._window, len(MAGIC) + 1
        if not window.fill(start) or window.get(0, len(MAGIC)) != MAGIC:
            raise self.error(0, "not an .fsq file", "encode a media file first with `fsqcodec encode`")
        version = window.get(0, start)[-1]
        if version not in VERSIONS:
            raise self.error(
                4,
                f"format version {version}, this program reads up to {VERSIONS[-1]}",
                "a newer fsqcodec may read it",
            )
        window.fill(start + 5)
        try:
            size, at = read_varint(window.get(0, start + 5), start, MAX_FIELDS)
        except ValueError as error:
            raise self.error(start, f"header: {error}", "get the file again from its source") from None
        if not window.fill(at + size + _CRC):
            raise self.error(at, "the file ends inside its header", "get the whole file")
        if not self._intact(at + size):
            raise self.error(at, "the header is damaged", "get the file again from its source")
        try:
            fields = window.get(at, at + size)
            if version >= DEFLATED:
                fields = inflate(fields, MAX_FIELDS, version)
            header = header_of(kind_of(fields, version)).unpack(fields, version)
        except (ValueError, RecursionError) as error:
            raise self.error(at, f"header: {error}", "a newer fsqcodec may read it") from None
        window.skip(at + size + _CRC)
        return header

    def _intact(self, end: int) -> bool:
        """Whether the bytes up to `end` have the checksum behind them."""
        return crc(self._window.get(0, end)) == self._window.get(end, end + _CRC)

    def __iter__(self) -> Iterator[Packet]:
        """Packets as they come; the last frames of each stream are remembered to check their order."""
        ahead = [self._first] * self.header.streams
        lost_before = 0
        while True:
            most = MAX_FRAMES * (1 + (self.lost - lost_before) // SMALLEST_PACKET) if self.keep_going else 0
            found = self._next(ahead, most)
            if found.end or (found.cut and not self.keep_going):
                self._finish(ahead, found.problem)
                return
            if found.problem:
                if not self.keep_going:
                    raise self.error(self.position, found.problem, "--keep-going decodes what is intact")
                skipped = self._window.find(_MARKERS)
                self._window.skip(skipped)
                self.lost += skipped
                continue
            self._window.skip(found.size)
            if found.packet:
                packet = found.packet
                ahead[packet.stream] = packet.start + packet.frames
                if all(end == ahead[0] for end in ahead):
                    lost_before = self.lost
                yield packet

    def _finish(self, ahead: list[int], problem: str) -> None:
        """At the end of the file, where streams end with the frames `ahead`."""
        lacking = self.header.shortfall(ahead, indexed=self.complete)
        self.complete = not problem and (self.complete or self.header.covered(ahead))
        if problem or (lacking and not self.lost):
            much = f"; {lacking:.2f} s are missing" if lacking else ""
            self.missing = f"byte {self.position}: {problem or 'the file ends early'}{much}"

    def _next(self, ahead: list[int], most: int) -> _Found:
        """What is at the reader's position.

        Args:
            ahead: the frame that comes next in each stream.
            most: frames that may be missing before it.
        """
        window = self._window
        if not window.fill(1):
            return _Found(end=True)
        kind = window.get(0, 1)[0]
        if kind not in _KNOWN and kind not in SKIPPABLE:
            return _Found(problem="no packet begins here")
        header = self.header
        largest = MAX_INDEX if kind == INDEX else header.max_packet
        window.fill(11)
        try:
            size, at = read_varint(window.get(0, 11), 1, largest)
            packet_head = None
            if kind != INDEX and kind not in SKIPPABLE:
                window.fill(at + min(size, _MAX_HEAD))
                packet_head = self._read_head(
                    kind, window.get(at, at + min(size, _MAX_HEAD)), size, ahead, most
                )
        except ValueError as error:
            return _Found(problem=f"packet: {error}")
        end = at + size
        if self._wasted > _FREE + _SHARE * self.position:
            return _Found(problem="more looks like packets than can be checked")
        if not window.fill(end + _CRC):
            self._wasted += len(window)
            return _Found(problem="the file ends inside a packet", cut=True)
        if not self._intact(end):
            self._wasted += end
            return _Found(problem="checksum of a packet is wrong")
        if kind == INDEX:
            return self._index(end + _CRC)
        if packet_head is None:
            return _Found(end + _CRC)
        return _Found(end + _CRC, Packet.behind(packet_head, window.get(at, end), self.position))

    def _read_head(self, kind: int, head: bytes, size: int, ahead: list[int], most: int) -> PacketHead:
        """The head of a packet of `size` bytes, of which `head` has the first.

        Raises:
            ValueError: it cannot be a packet that comes here.
        """
        header = self.header
        stream, _ = read_varint(head, 0, header.streams - 1)
        limits = PacketLimits(header.streams, *header.packet_limits(stream), header.max_packet)
        found = PacketHead.read(kind, Cursor(head), limits, size)
        gap = found.start - ahead[stream]
        if gap < 0:
            raise ValueError(f"it goes back to frame {found.start}")
        if gap and not self.keep_going:
            raise ValueError(f"frames {ahead[stream]} to {found.start} are missing")
        if gap > most:
            raise ValueError(f"it claims a gap of {gap} frames")
        return found

    def _index(self, size: int) -> _Found:
        window = self._window
        window.fill(size + TRAILER + 1)
        behind = len(window) - size
        if behind > TRAILER and not self.keep_going:
            return _Found(problem="data behind the end of the file")
        window.skip(size + min(behind, TRAILER))
        self.complete = True
        return _Found(end=True)


def read_index(file: IO[bytes]) -> list[tuple[int, int]] | None:
    """(start frame, byte offset) of every packet of a seekable file; None where there is no sound index.

    The file's position is left where it was.
    """
    here = file.tell()
    try:
        end = file.seek(0, io.SEEK_END)
        if end < TRAILER:
            return None
        file.seek(end - TRAILER)
        tail = file.read(TRAILER)
        size = int.from_bytes(tail[:3], "big")
        if tail[3] != END or size > end - TRAILER:
            return None
        file.seek(end - TRAILER - size)
        block = file.read(size)
        if len(block) < 6 or block[0] != INDEX or crc(block[:-4]) != block[-4:]:
            return None
        fields = Cursor(block[1:])
        _, count = fields.numbers(len(block), len(block))
        entries, start, offset = [], 0, 0
        for _ in range(count):
            frames, size = fields.numbers(MAX_START, MAX_START)
            start, offset = start + frames, offset + size
            entries.append((start, offset))
        return entries
    except ValueError:
        return None
    finally:
        file.seek(here)
