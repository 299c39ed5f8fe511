"""What every header of a `.fsq` file has, whatever the file holds: its frame of bytes, and what readers ask of it.

    header  = "FSQC"  version:u8  length  fields  crc     (crc of all before it; version 3: the fields are deflated,
              see `fsqcodec.bitstream.header_dictionary`)
    fields  = kind  name:bytes  model_hash:8  table_hash:4  …    (bytes: length, then as many)

The kind tells which modality's header the fields are (`fsqcodec.registry`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from ..errors import BitstreamError, ModelError
from .header_dictionary import deflate
from .primitives import Cursor, crc, json_bytes, sized, varint

if TYPE_CHECKING:
    from .stats import FileStats

MAGIC, VERSIONS = b"FSQC", (1, 2, 3)
"""The last is written, all are read."""
DEFLATED = 3
"""Version from which on header fields are deflated."""
MAX_HEADER = 1 << 18
"""Bytes of header fields."""
MAX_STAGES = 256
_MAX_NAME = 256


class FileHeader(Protocol):
    """A header of any kind."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def model_hash(self) -> bytes:
        """8 bytes: what the tokens mean (quantizer and encoder)."""

    @property
    def table_hash(self) -> bytes:
        """4 bytes: the entropy model that the layers are coded with."""

    @property
    def stages(self) -> int:
        """Stages that were written."""

    @property
    def tags(self) -> dict[str, str]:
        """Title, artist, …"""

    @property
    def layers(self) -> int:
        """Layers of a complete packet of the first stream."""

    @property
    def streams(self) -> int:
        """Number of streams."""

    @property
    def max_packet(self) -> int:
        """Bytes that a packet may claim."""

    @property
    def seconds(self) -> float | None:
        """Duration; None when it was not known."""

    def span(self, frames: int) -> float:
        """Seconds of so many frames of the first stream."""

    def packet_limits(self, stream: int) -> tuple[int, int]:
        """Layers and frames that a packet of a stream may have at most."""

    def covered(self, ends: Sequence[int]) -> bool:
        """Whether streams that end with these frames are all that the header tells of."""

    def scalable(self, stream: int) -> bool:
        """Whether layers of a stream may be dropped; the rest, such as the sound of a video, stays whole."""

    def stage_range(self, layer: int) -> tuple[int, int]:
        """First and last stage of a layer, counted from 1; (0, 0) for side information, which must stay."""

    def stages_of(self, layers: int) -> int:
        """Stages of the first so many layers."""

    def peeled(self, layers: int) -> Self:
        """The header of the file whose packets keep so many layers."""

    def facts(self, stats: FileStats) -> dict[str, Any]:
        """What `fsqcodec info` tells of this kind of file, ready for JSON."""

    def fields(self) -> bytes:
        """The header's fields, without magic, length and crc."""

    def pack(self) -> bytes:
        """The bytes of the header.

        Raises:
            BitstreamError: it is longer than MAX_HEADER.
        """

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """The header of its fields.

        Raises:
            ValueError: they are none.
        """


def seal(fields: bytes) -> bytes:
    """A header of its fields: magic, version, length and crc around them, deflated.

    Raises:
        BitstreamError: they are longer than MAX_HEADER.
    """
    if len(fields) > MAX_HEADER:
        raise BitstreamError(f"a header of {len(fields)} bytes is more than {MAX_HEADER}: shorten the tags")
    head = MAGIC + bytes([VERSIONS[-1]]) + sized(deflate(fields))
    return head + crc(head)


def pack_identity(kind: int, model: str, model_hash: bytes, table_hash: bytes) -> bytes:
    """The fields that every header begins with."""
    return varint(kind) + sized(model.encode()) + model_hash + table_hash


def read_identity(fields: Cursor, kind: int) -> tuple[str, bytes, bytes]:
    """Model, model hash and table hash of the fields that every header begins with.

    Raises:
        ValueError: they are none, or of another kind.
    """
    if fields.number(0x7F) != kind:
        raise ValueError("the header of another kind of file")
    return fields.sized(_MAX_NAME).decode("utf-8"), fields.take(8), fields.take(4)


def pack_tags(tags: dict[str, str]) -> bytes:
    """Tags as the header holds them."""
    return sized(json_bytes(tags))


def read_tags(fields: Cursor) -> dict[str, str]:
    """Inverse of `pack_tags`.

    Raises:
        ValueError: they are no text.
    """
    text = fields.sized(MAX_HEADER)
    tags = json.loads(text.decode("utf-8")) if text else {}
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise ValueError("tags are not text")
    return tags


def check_model(
    name: str, header: FileHeader, model: str, model_hash: bytes, table_hashes: Collection[bytes]
) -> None:
    """Check that a file was made with a model and one of its entropy models, the first of which it writes with.

    Raises:
        ModelError: it was made with another; the message names both.
    """
    if header.model_hash != model_hash or header.table_hash not in table_hashes:
        made, ours = header.model_hash + header.table_hash, model_hash + next(iter(table_hashes))
        raise ModelError(
            f"{name}: made with model {header.model} {made.hex()}, this is {model} {ours.hex()}; "
            "give the model it was made with by --model"
        )
