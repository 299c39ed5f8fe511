"""Header of pictures and video in a `.fsq` file, and the side information of a packet: typed fields, or up to version 3

    fields  = 1  name:bytes  model_hash:8  prior_hash:4  width  height  tick_num  tick_den  rate_num  rate_den
              frames+1  stages  stages_per_layer  packet_frames  flags  tags:bytes(JSON)  audio:bytes
    flags   = 1 still | 2 grey | 4 transparent | 8 audio is carried as it was | 16 · matrix | 256 full range (`Colours`)
    audio   = empty, or the fields of an audio header (its streams follow the pictures', from stream 1 on),
              or JSON that describes carried packets
    side    = quality  first_time  (time - time before)*  [PNG of the transparency]     (layer 0 of a packet)

A packet is a group of pictures that decodes by itself; its layer 0 is the side information, and layers 1 … hold
`stages_per_layer` stages of all its frames each. Times count in ticks of tick_num / tick_den seconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from ..bitstream.fields import MAX_FIELDS, Field, FieldReader, pack_fields
from ..bitstream.header import (
    COMMON,
    LENGTH,
    STAGES,
    TYPED,
    FileHeader,
    Layered,
    common_fields,
    read_identity,
    read_length,
    read_plain_identity,
    read_plain_stages,
    read_plain_tags,
    read_tags,
)
from ..bitstream.packet import Packet
from ..bitstream.primitives import Cursor, json_bytes, unzigzag, varints, zigzag
from ..bitstream.stats import FileStats
from ..errors import BitstreamError
from ..media.color import UNSAID, Colours
from ..media.image import MAX_PIXELS, MAX_SIDE
from ..registry import header_of

KIND = 1
MAX_GROUP = 256
"""Frames in a packet."""
_MAX_PACKET = 1 << 27
_MAX_RATIONAL = 1 << 40
_STILL, _GREY, _TRANSPARENT = 1, 2, 4
_CARRIED, _MATRIX, _FULL = 8, 16, 256
"""Further flags up to version 3."""
SIZE = Field(16, "width and height", True, (MAX_SIDE, MAX_SIDE))
CLOCK = Field(17, "seconds of a tick", True, (_MAX_RATIONAL, _MAX_RATIONAL))
RATE = Field(18, "frames a second", False, (_MAX_RATIONAL, _MAX_RATIONAL))
FLAGS = Field(19, "still, grey, transparent", True, (7,))
COLOURS = Field(20, "colour matrix and full range", False, (15, 1))
SOUND = Field(21, "header of coded sound", True, size=MAX_FIELDS)
PASSTHROUGH = Field(22, "description of sound that passes through", True, size=MAX_FIELDS)
FIELDS = (SIZE, CLOCK, RATE, FLAGS, COLOURS, SOUND, PASSTHROUGH)


@dataclass(frozen=True)
class VisualHeader(Layered):
    """What a file of pictures says of itself."""

    side_layers = 1

    model: str
    model_hash: bytes
    """8 bytes: what the tokens mean (quantizer and encoder)."""
    table_hash: bytes
    """4 bytes: the learned prior that the layers are coded with."""
    width: int
    height: int
    tick: Fraction
    """Seconds of a tick, in which frame times count."""
    frame_rate: Fraction
    """Average frames a second."""
    frames: int | None
    """None when it was not known."""
    stages: int
    """Stages that were written."""
    stages_per_layer: int
    packet_frames: int
    still: bool = False
    """One picture, not a video."""
    grey: bool = False
    transparent: bool = False
    """Packets end with the transparency of their frames."""
    colours: Colours = UNSAID
    """Of the original, and of what is decoded where the format has a choice."""
    tags: dict[str, str] = field(default_factory=dict)
    audio: FileHeader | None = None
    """The sound, coded by an audio model."""
    carried: dict[str, Any] | None = None
    """Codec, rate, layout, time base and extra data of sound that is carried as it was."""

    @property
    def streams(self) -> int:
        """The pictures', and the sound's."""
        return 1 + (self.audio.streams if self.audio else bool(self.carried))

    @property
    def max_packet(self) -> int:
        """Bytes that a packet may claim."""
        return _MAX_PACKET

    @property
    def seconds(self) -> float | None:
        """Duration; None when it was not known."""
        return None if self.frames is None else self.span(self.frames)

    def span(self, frames: int) -> float:
        """Seconds of so many frames."""
        return float(frames / self.frame_rate)

    def packet_limits(self, stream: int) -> tuple[int, int]:
        """Layers and frames that a packet of a stream may have at most: the sound's are its own."""
        if not stream:
            return self.layers, 2 * self.packet_frames
        return self.audio.packet_limits(stream - 1) if self.audio else (2, 1)

    def covered(self, ends: Sequence[int]) -> bool:
        """Whether streams that end with these frames are all that the header tells of; of sound it does not tell."""
        return self.frames is not None and len(ends) == 1 and ends[0] >= self.frames

    def shortfall(self, ends: Sequence[int], indexed: bool) -> float:
        """Seconds that are missing of pictures or of coded sound where the streams end with these frames.

        The number of frames is what the source claimed before it was read, so that of an `indexed` file is not missed.
        """
        claimed = None if indexed else self.seconds
        pictures = 0.0 if claimed is None else max(0.0, claimed - self.span(ends[0]))
        return max(pictures, self.audio.shortfall(ends[1:], indexed) if self.audio else 0.0)

    def scalable(self, stream: int) -> bool:
        """Layers of the pictures may be dropped; the sound stays whole."""
        return stream == 0

    def peeled(self, layers: int) -> VisualHeader:
        """The header of the file whose packets keep so many layers."""
        return replace(self, stages=self.stages_of(layers))

    def facts(self, stats: FileStats) -> dict[str, Any]:
        """What `fsqcodec info` tells of pictures."""
        sound = self.audio.model if self.audio else self.carried["codec"] if self.carried else None
        pixels = self.width * self.height * max(1, stats.frames)
        return {
            "kind": "picture" if self.still else "video",
            "width": self.width,
            "height": self.height,
            "frames": stats.frames,
            "frames_per_second": float(self.frame_rate),
            "tick": str(self.tick),
            "bits_per_pixel": 8 * (stats.total - stats.sound) / pixels,
            "sound": sound,
            "sound_bytes": stats.sound,
            "transparent": self.transparent,
            "packet_frames": self.packet_frames,
        }

    def fields(self) -> bytes:
        """The header's typed fields.

        Raises:
            BitstreamError: a file cannot hold one.
        """
        values = common_fields(self, KIND, self.packet_frames, self.stages_per_layer, self.frames)
        flags = self.still * _STILL | self.grey * _GREY | self.transparent * _TRANSPARENT
        values[SIZE] = SIZE.numbers(self.width, self.height)
        values[CLOCK] = CLOCK.numbers(*self.tick.as_integer_ratio())
        values[RATE] = RATE.numbers(*self.frame_rate.as_integer_ratio())
        if flags:
            values[FLAGS] = FLAGS.numbers(flags)
        if self.colours != UNSAID:
            values[COLOURS] = COLOURS.numbers(self.colours.matrix, self.colours.full)
        if self.audio:
            values[SOUND] = SOUND.data(self.audio.fields())
        if self.carried:
            values[PASSTHROUGH] = PASSTHROUGH.data(json_bytes(self.carried))
        return pack_fields(values)

    @classmethod
    def unpack(cls, body: bytes, version: int) -> VisualHeader:
        """The header of the fields of a file of a version.

        Raises:
            ValueError: they are none.
        """
        header = cls._typed(body, version) if version >= TYPED else cls._plain(body, version)
        needed = (header.width, header.height, header.stages_per_layer, header.packet_frames)
        if (
            0 in (*needed, header.tick, header.frame_rate)
            or header.width * header.height > MAX_PIXELS
            or header.packet_frames > MAX_GROUP
        ):
            raise ValueError("its fields do not fit together")
        return header

    @classmethod
    def _typed(cls, body: bytes, version: int) -> VisualHeader:
        fields = FieldReader(body, (*COMMON, *FIELDS))
        per_layer, packet_frames, stages = fields.numbers(STAGES)
        (flags,) = fields.numbers(FLAGS, (0,))
        matrix, full = fields.numbers(COLOURS, (UNSAID.matrix, UNSAID.full))
        width, height = fields.numbers(SIZE)
        sound = fields.data(SOUND, b"")
        return cls(
            *read_identity(fields),
            width,
            height,
            _rational(fields.numbers(CLOCK)),
            _rational(fields.numbers(RATE, (25, 1))),
            read_length(fields),
            stages,
            per_layer,
            packet_frames,
            still=bool(flags & _STILL),
            grey=bool(flags & _GREY),
            transparent=bool(flags & _TRANSPARENT),
            colours=Colours(matrix, bool(full)),
            tags=read_tags(fields),
            audio=header_of("audio").unpack(sound, version) if sound else None,
            carried=_description(fields.data(PASSTHROUGH)) if PASSTHROUGH in fields else None,
        )

    @classmethod
    def _plain(cls, body: bytes, version: int) -> VisualHeader:
        """Up to version 3."""
        fields = Cursor(body)
        identity = read_plain_identity(fields, KIND)
        width, height = fields.numbers(*SIZE.limits)
        tick, rate = fields.numbers(*CLOCK.limits), fields.numbers(*RATE.limits)
        frames = fields.number(*LENGTH.limits)
        stages, per_layer, group = read_plain_stages(fields)
        flags = fields.number(2 * _FULL - 1)
        tags = read_plain_tags(fields)
        audio = fields.sized(MAX_FIELDS)
        if not fields.done:
            raise ValueError("its fields do not fit together")
        carried = _description(audio) if flags & _CARRIED else None
        return cls(
            *identity,
            width,
            height,
            _rational(tick),
            _rational(rate),
            frames - 1 if frames else None,
            stages,
            per_layer,
            group,
            still=bool(flags & _STILL),
            grey=bool(flags & _GREY),
            transparent=bool(flags & _TRANSPARENT),
            colours=Colours(flags % _FULL // _MATRIX, bool(flags & _FULL)),
            tags=tags,
            audio=None if carried or not audio else header_of("audio").unpack(audio, version),
            carried=carried,
        )


def _rational(numbers: list[int]) -> Fraction:
    if 0 in numbers:
        raise ValueError("its fields do not fit together")
    return Fraction(*numbers)


def _description(text: bytes) -> dict[str, Any]:
    found = json.loads(text.decode("utf-8"))
    if not isinstance(found, dict):
        raise ValueError("sound without a description")
    return found


MAX_TIME, MAX_STEP = 1 << 60, 1 << 48
"""Ticks of a time, zigzag, and of a step from one to the next."""
_SKIPPING = 64
"""Added to the quality in a packet that skips; qualities are below."""


@dataclass(frozen=True)
class SideInfo:
    """Side information of a packet."""

    quality: int
    times: tuple[int, ...]
    """Of the frames, in ticks, ascending."""
    transparency: bytes = b""
    """PNG, grey, frames below each other; empty when opaque."""
    skipping: bool = False
    """Whether frames after the first tell which positions stay as they were."""

    def pack(self) -> bytes:
        """The bytes of layer 0.

        Raises:
            BitstreamError: times are beyond what a file can hold.
        """
        steps = [b - a for a, b in zip(self.times, self.times[1:], strict=False)]
        numbers = (
            self.quality + _SKIPPING * self.skipping,
            zigzag(self.times[0]),
            *steps,
        )  # the first time may lie before zero
        if max(numbers[1], *steps, 0) > MAX_STEP:
            raise BitstreamError("times of frames: more ticks than a file can hold")
        return varints(numbers) + self.transparency

    @classmethod
    def unpack(cls, data: bytes, frames: int) -> SideInfo:
        """Inverse of `pack`.

        Raises:
            ValueError: the data are damaged.
        """
        fields = Cursor(data)
        skipping, quality = divmod(fields.number(255), _SKIPPING)
        times = [unzigzag(fields.number(MAX_TIME))]
        for _ in range(frames - 1):
            times.append(times[-1] + fields.number(MAX_STEP))
        return cls(quality, tuple(times), data[fields.at :], bool(skipping))


def side_of(packet: Packet) -> SideInfo:
    """Side information of a packet of pictures.

    Raises:
        BitstreamError: it is damaged.
    """
    try:
        return SideInfo.unpack(packet.layers[0], packet.frames)
    except ValueError as error:
        raise BitstreamError(f"side information: {error}") from None
