"""What every header of a `.fsq` file has, whatever the file holds: its frame of bytes, and what readers ask of it.

    header  = "FSQC"  version:u8  length  fields  crc     (crc of all before it; from version 3 on the fields are deflated,
              see `fsqcodec.bitstream.header_dictionary`)

From version 4 on they are the typed fields of `fsqcodec.bitstream.fields`. Before, they were

    fields  = kind  name:bytes  model_hash:8  table_hash:4  …    (bytes: length, then as many)

The kind tells which modality's header it is (`fsqcodec.registry`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from ..errors import BitstreamError, ModelError
from ..registry import header_of
from .fields import MAX_FIELDS, Field, FieldReader
from .header_dictionary import deflate
from .packet import MAX_FRAMES
from .primitives import Cursor, crc, json_bytes, sized

if TYPE_CHECKING:
    from .stats import FileStats

MAGIC, VERSIONS = b"FSQC", (1, 2, 3, 4)
"""The last is written, all are read."""
DEFLATED, TYPED = 3, 4
"""Versions from which on header fields are deflated, and are typed fields."""
MAX_STAGES = 256
_MAX_NAME = 256

KIND = Field(1, "kind", True, (0x7F,))
MODEL = Field(2, "name of the model", True, size=_MAX_NAME)
HASHES = Field(3, "hashes of model and entropy model", True, size=12)
STAGES = Field(
    60, "stages of a layer, frames of a packet, stages", True, (MAX_STAGES, MAX_FRAMES, MAX_STAGES)
)
LENGTH = Field(61, "samples or frames in all", False, (1 << 48,))
TAGS = Field(62, "tags", False, size=MAX_FIELDS)
COMMON = (KIND, MODEL, HASHES, STAGES, LENGTH, TAGS)
"""Fields of headers of every kind."""


class Identity(NamedTuple):
    """What a file was made with."""

    model: str
    """Name of the model."""
    model_hash: bytes
    """8 bytes: what the tokens mean."""
    table_hash: bytes
    """4 bytes: the entropy model."""


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

    def shortfall(self, ends: Sequence[int], indexed: bool) -> float:
        """Seconds that are missing of what the header tells of, where the streams end with these frames.

        `indexed` says that the file has its end: a number that its source only claimed is not missed then.
        """

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
            BitstreamError: a file cannot hold it.
        """

    @classmethod
    def unpack(cls, body: bytes, version: int) -> Self:
        """The header of the fields of a file of a version.

        Raises:
            ValueError: they are none.
        """


class Layered:
    """What headers of files whose packets hold stages in layers have in common; `FileHeader` says the rest."""

    stages: int
    stages_per_layer: int
    side_layers = 0
    """Layers of side information in front of the stages."""

    @property
    def layers(self) -> int:
        """Layers of a complete packet of the first stream."""
        return self.side_layers + -(-self.stages // self.stages_per_layer)

    def stage_range(self, layer: int) -> tuple[int, int]:
        """First and last stage of a layer, counted from 1; (0, 0) for side information."""
        if layer < self.side_layers:
            return 0, 0
        return self.stages_of(layer) + 1, self.stages_of(layer + 1)

    def stages_of(self, layers: int) -> int:
        """Stages of the first so many layers."""
        return min(self.stages, max(0, layers - self.side_layers) * self.stages_per_layer)

    def fields(self) -> bytes:
        """The header's typed fields."""
        raise NotImplementedError

    def pack(self) -> bytes:
        """The bytes of the header.

        Raises:
            BitstreamError: a file cannot hold it.
        """
        return seal(self.fields())


def seal(fields: bytes) -> bytes:
    """A header of its fields: magic, version, length and crc around them, deflated.

    Raises:
        BitstreamError: they are longer than MAX_FIELDS, or no reader would accept them.
    """
    version = VERSIONS[-1]
    deflated = deflate(fields, version)
    longest = max(len(fields), len(deflated))  # deflating makes noise a little longer
    if longest > MAX_FIELDS:
        raise BitstreamError(f"a header of {longest} bytes is more than {MAX_FIELDS}: shorten the tags")
    try:
        header_of(kind_of(fields, version)).unpack(fields, version)
    except ValueError as error:
        raise BitstreamError(f"a header that no reader accepts: {error}") from None
    head = MAGIC + bytes([version]) + sized(deflated)
    return head + crc(head)


def common_fields(
    header: FileHeader, kind: int, packet_frames: int, per_layer: int, length: int | None
) -> dict[Field, bytes]:
    """Values of the fields that every header has.

    Raises:
        BitstreamError: a file cannot hold one.
    """
    values = {
        KIND: KIND.numbers(kind),
        MODEL: MODEL.data(header.model.encode()),
        HASHES: HASHES.data(header.model_hash + header.table_hash),
        STAGES: STAGES.numbers(per_layer, packet_frames, header.stages),
    }
    if length is not None:
        values[LENGTH] = LENGTH.numbers(length)
    if header.tags:
        values[TAGS] = TAGS.data(json_bytes(header.tags))
    return values


def kind_of(fields: bytes, version: int) -> int:
    """The kind of a header, by its fields.

    Raises:
        ValueError: they are none.
    """
    first = Cursor(fields)
    if version >= TYPED and first.take(2) != bytes([2 * KIND.number + KIND.critical, 1]):
        raise ValueError("its kind does not come first")
    return first.number(*KIND.limits)


def read_identity(fields: FieldReader) -> Identity:
    """Model and hashes of typed fields.

    Raises:
        ValueError: they are none.
    """
    hashes = fields.data(HASHES)
    if len(hashes) != HASHES.size:
        raise ValueError("its hashes are cut")
    return Identity(fields.data(MODEL).decode("utf-8"), hashes[:8], hashes[8:])


def read_tags(fields: FieldReader) -> dict[str, str]:
    """Tags of typed fields.

    Raises:
        ValueError: they are no text.
    """
    return _tags(fields.data(TAGS, b""))


def read_length(fields: FieldReader) -> int | None:
    """Samples or frames in all; None when not known.

    Raises:
        ValueError: they are damaged.
    """
    return fields.numbers(LENGTH)[0] if LENGTH in fields else None


def read_plain_identity(fields: Cursor, kind: int) -> Identity:
    """Model and hashes that headers up to version 3 begin with.

    Raises:
        ValueError: they are none, or of another kind.
    """
    if fields.number(*KIND.limits) != kind:
        raise ValueError("the header of another kind of file")
    return Identity(fields.sized(_MAX_NAME).decode("utf-8"), fields.take(8), fields.take(4))


def read_plain_stages(fields: Cursor) -> list[int]:
    """Stages, stages of a layer and frames of a packet of headers up to version 3.

    Raises:
        ValueError: they are none.
    """
    return fields.numbers(MAX_STAGES, MAX_STAGES, MAX_FRAMES)


def read_plain_tags(fields: Cursor) -> dict[str, str]:
    """Tags of headers up to version 3.

    Raises:
        ValueError: they are no text.
    """
    return _tags(fields.sized(MAX_FIELDS))


def _tags(text: bytes) -> dict[str, str]:
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
