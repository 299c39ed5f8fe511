"""Numbers and checksums of the `.fsq` format: LEB128 varints, zigzag, CRC-32, and reading them in order."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable


def varint(value: int) -> bytes:
    """LEB128 bytes of a number ≥ 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varints(values: Iterable[int]) -> bytes:
    """Numbers ≥ 0, one after the other."""
    return b"".join(map(varint, values))


def sized(data: bytes) -> bytes:
    """Bytes behind their length."""
    return varint(len(data)) + data


def json_bytes(value: object) -> bytes:
    """A value as JSON in UTF-8, as short as it can be; nothing for what is empty."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() if value else b""


def read_varint(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """A number of at most `limit` at a position in data, and the position behind it.

    Raises:
        ValueError: the data end, or the number is larger.
    """
    value = 0
    for shift in range(0, 63, 7):
        if at >= len(data):
            raise ValueError("data end within a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            if value > limit:
                raise ValueError(f"a size of {value} is beyond the limit of {limit}")
            return value, at
    raise ValueError("a number without end")


def zigzag(value: int) -> int:
    """A whole number as one ≥ 0, small ones staying small; for `varint`."""
    return 2 * value if value >= 0 else -2 * value - 1


def unzigzag(value: int) -> int:
    """Inverse of `zigzag`."""
    return value // 2 if value % 2 == 0 else -(value // 2) - 1


def crc(data: bytes) -> bytes:
    """CRC-32, 4 bytes big-endian."""
    return zlib.crc32(data).to_bytes(4, "big")


class Cursor:
    """Reads fields of some bytes, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, limit: int) -> int:
        """The next varint.

        Raises:
            ValueError: the data end, or it is more than `limit`.
        """
        value, self.at = read_varint(self.data, self.at, limit)
        return value

    def numbers(self, *limits: int) -> list[int]:
        """The next varints, each within its limit.

        Raises:
            ValueError: as for `number`.
        """
        return [self.number(limit) for limit in limits]

    def take(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            ValueError: there are fewer.
        """
        if size > len(self.data) - self.at:
            raise ValueError("its fields do not fit together")
        start, self.at = self.at, self.at + size
        return self.data[start : self.at]

    def sized(self, limit: int) -> bytes:
        """The next bytes behind their length, which is at most `limit`.

        Raises:
            ValueError: there are fewer, or the length is more.
        """
        return self.take(self.number(limit))

    @property
    def done(self) -> bool:
        """Whether all was read."""
        return self.at == len(self.data)
