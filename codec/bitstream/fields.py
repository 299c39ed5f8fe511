"""Typed fields: tag, length, value. A header of them can grow, and old readers know what they may skip.

    fields = field*        field = tag  length  value        tag = 2 · number + critical

Fields come in ascending order of their numbers, each at most once. A reader that does not know the number of a critical
field must refuse the file; any other it skips. Limits are checked by who writes and by who reads: what one may write the
other accepts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..errors import BitstreamError
from .primitives import Cursor, sized, varint, varints

MAX_NUMBER = 1 << 20
MAX_FIELDS = 1 << 18
"""Bytes of all fields of a header."""


@dataclass(frozen=True)
class Field:
    """One kind of field."""

    number: int
    name: str
    """As errors and `docs/format.md` call it."""
    critical: bool
    """Whether who does not know it must refuse."""
    limits: tuple[int, ...] = ()
    """Of a value that is numbers (varints): the largest that each may be."""
    size: int = 0
    """Of a value that is bytes: how many at most."""

    def numbers(self, *values: int) -> bytes:
        """A value of numbers.

        Raises:
            BitstreamError: one is beyond its limit.
        """
        for value, limit in zip(values, self.limits, strict=True):
            if not 0 <= value <= limit:
                raise BitstreamError(f"{self.name}: {value} is not within 0 … {limit}, which a file can hold")
        return varints(values)

    def data(self, value: bytes) -> bytes:
        """A value of bytes.

        Raises:
            BitstreamError: there are too many.
        """
        if len(value) > self.size:
            raise BitstreamError(
                f"{self.name}: {len(value)} bytes are more than {self.size}, which a file can hold"
            )
        return value


def pack_fields(values: dict[Field, bytes]) -> bytes:
    """The bytes of fields, given by their values."""
    ordered = sorted(values.items(), key=lambda item: item[0].number)
    return b"".join(varint(2 * field.number + field.critical) + sized(value) for field, value in ordered)


class FieldReader:
    """Fields as they were read.

    Args:
        data: their bytes.
        known: those that the reader knows.

    Raises:
        ValueError: they are damaged, out of order, or an unknown one is critical.
    """

    def __init__(self, data: bytes, known: Collection[Field]) -> None:
        numbers = {field.number for field in known}
        cursor, last = Cursor(data), -1
        self._values: dict[int, bytes] = {}
        while not cursor.done:
            number, critical = divmod(cursor.number(2 * MAX_NUMBER + 1), 2)
            if number <= last:
                raise ValueError("its fields are out of order")
            last = number
            value = cursor.sized(MAX_FIELDS)
            if number in numbers:
                self._values[number] = value
            elif critical:
                raise ValueError(f"field {number} is needed to read it, and this program does not know it")

    def __contains__(self, field: Field) -> bool:
        return field.number in self._values

    def numbers(self, field: Field, default: tuple[int, ...] | None = None) -> list[int]:
        """The numbers of a field.

        Raises:
            ValueError: it is missing without a default, or one is beyond its limit.
        """
        if field not in self and default is not None:
            return list(default)
        cursor = Cursor(self.data(field))
        values = cursor.numbers(*field.limits)
        if not cursor.done:
            raise ValueError(f"{field.name} is longer than it may be")
        return values

    def data(self, field: Field, default: bytes | None = None) -> bytes:
        """The bytes of a field.

        Raises:
            ValueError: it is missing without a default, or too long.
        """
        if field not in self:
            if default is None:
                raise ValueError(f"{field.name} is missing")
            return default
        value = self._values[field.number]
        if field.size and len(value) > field.size:
            raise ValueError(f"{field.name} is longer than it may be")
        return value
