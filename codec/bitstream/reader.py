"""Reading `.fsq` files: from pipes, damaged, truncated or hostile. Every size is checked against a limit before it is used."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

from ..errors import BitstreamError
from ..registry import header_of
from .header import DEFLATED, MAGIC, MAX_HEADER, VERSIONS, FileHeader
from .header_dictionary import inflate
from .packet import MAX_FRAMES, MAX_START, PACKET, SMALLEST_PACKET, TAILED, Packet, PacketLimits
from .primitives import Cursor, crc, read_varint
from .writer import END, INDEX, MAX_INDEX, TRAILER


class Reader:
    """Reads the header at once and then packets in order.

    Args:
        file: binary file, a pipe will do.
        name: what errors call it.
        keep_going: skip what is damaged instead of raising; `lost` counts the bytes skipped.

    Raises:
        BitstreamError: with the name and the byte offset, when something is wrong.
    """

    def __init__(self, file: IO[bytes], name: str = "input", keep_going: bool = False) -> None:
        self._file, self.name, self.keep_going = file, name, keep_going
        self._window, self._at = b"", 0
        self.lost = 0
        self._first = 0
        self.complete = False
        """Whether nothing is missing behind the last packet: the index was met, or as much as the header tells of."""
        self.header = self._read_header()

    def _fill(self, size: int) -> bool:
        while len(self._window) < size:
            data = self._file.read(max(size - len(self._window), 1 << 16))
            if not data:
                return False
            self._window += data
        return True

    def _skip(self, size: int) -> bytes:
        taken, self._window = self._window[:size], self._window[size:]
        self._at += size
        return taken

    @property
    def seekable(self) -> bool:
        """Whether it is a file, all of it there, and not a pipe."""
        return self._file.seekable()

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._at

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
        entries = (read_index(self._file) if self._file.seekable() else None) or [(0, self._at)]
        starts = sorted({start for start, _ in entries if start <= frame})
        self._first = starts[-2] if len(starts) > 1 else 0
        if self._first:
            self._at = next(offset for start, offset in entries if start == self._first)
            self._file.seek(self._at)
            self._window = b""
        return self._first

    def _read_header(self) -> FileHeader:
        start = len(MAGIC) + 1
        if not self._fill(start) or self._window[: len(MAGIC)] != MAGIC:
            raise self.error(0, "not an .fsq file", "encode a media file first with `fsqcodec encode`")
        version = self._window[start - 1]
        if version not in VERSIONS:
            raise self.error(4, f"format version {version}, this program reads up to {VERSIONS[-1]}",
                             "a newer fsqcodec may read it")  # fmt: skip
        self._fill(start + 5)
        try:
            size, at = read_varint(self._window, start, MAX_HEADER)
        except ValueError as error:
            raise self.error(start, f"header: {error}", "get the file again from its source") from None
        if not self._fill(at + size + 4):
            raise self.error(at, "the file ends inside its header", "get the whole file")
        if crc(self._window[: at + size]) != self._window[at + size : at + size + 4]:
            raise self.error(at, "the header is damaged", "get the file again from its source")
        try:
            fields = self._window[at : at + size]
            if version >= DEFLATED:
                fields = inflate(fields, MAX_HEADER)
            header = header_of(Cursor(fields).number(0x7F)).unpack(fields)
        except ValueError as error:
            raise self.error(at, f"header: {error}", "a newer fsqcodec may read it") from None
        self._skip(at + size + 4)
        return header

    def __iter__(self) -> Iterator[Packet]:
        """Packets as they come; the last frames of each stream are remembered to check their order."""
        ahead = [self._first] * self.header.streams
        lost_before = 0
        while True:
            packet, size, problem = self._next()
            if packet is None and not problem:
                self.complete = self.complete or self.header.covered(ahead)
                return
            if packet:
                gap = packet.start - ahead[packet.stream]
                lost = self.lost - lost_before
                if gap < 0:
                    problem = f"packet goes back to frame {packet.start}"
                elif gap and not self.keep_going:
                    problem = f"frames {ahead[packet.stream]} to {packet.start} are missing"
                elif gap > MAX_FRAMES * (1 + lost // SMALLEST_PACKET):
                    problem = f"packet claims a gap of {gap} frames"
            if problem:
                if not self.keep_going:
                    raise self.error(self._at, problem, "--keep-going decodes what is intact")
                self._skip(1)
                self.lost += 1
                continue
            assert packet is not None
            ahead[packet.stream] = packet.start + packet.frames
            if all(end == ahead[0] for end in ahead):
                lost_before = self.lost
            self._skip(size)
            yield packet

    def _next(self) -> tuple[Packet | None, int, str]:
        """The packet here and its size; (None, 0, "") at the end; (None, 0, problem) where there is none."""
        if not self._fill(1):
            return None, 0, ""
        kind = self._window[0]
        if kind not in (PACKET, TAILED, INDEX):
            return None, 0, "no packet begins here"
        self._fill(6)
        try:
            size, at = read_varint(self._window, 1, MAX_INDEX if kind == INDEX else self.header.max_packet)
        except ValueError as error:
            return None, 0, f"packet: {error}"
        if not self._fill(at + size + 4):
            return None, 0, "the file ends inside a packet"
        if crc(self._window[: at + size]) != self._window[at + size : at + size + 4]:
            return None, 0, "checksum of a packet is wrong"
        if kind == INDEX:
            self._fill(at + size + 4 + TRAILER + 1)
            behind = len(self._window) - (at + size + 4)
            if behind > TRAILER and not self.keep_going:
                return None, 0, "data behind the end of the file"
            self._skip(at + size + 4 + min(behind, TRAILER))
            self.complete = True
            return None, 0, ""
        try:
            header = self.header
            stream, _ = read_varint(self._window, at, header.streams - 1)
            limits = PacketLimits(header.streams, *header.packet_limits(stream), header.max_packet)
            body = self._window[at : at + size]
            return Packet.unpack(body, limits, self._at, kind == TAILED), at + size + 4, ""
        except ValueError as error:
            return None, 0, f"packet: {error}"


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
