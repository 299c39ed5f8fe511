"""Header fields of pictures and video in a `.fsq` file, and the side information of a packet.

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

from ..bitstream.header import (
    MAX_HEADER,
    MAX_STAGES,
    FileHeader,
    pack_identity,
    pack_tags,
    read_identity,
    read_tags,
    seal,
)
from ..bitstream.packet import MAX_START, Packet
from ..bitstream.primitives import Cursor, json_bytes, sized, unzigzag, varints, zigzag
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
_STILL, _GREY, _TRANSPARENT, _CARRIED, _MATRIX, _FULL = 1, 2, 4, 8, 16, 256


@dataclass(frozen=True)
class VisualHeader:
    """What a file of pictures says of itself."""

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
    def layers(self) -> int:
        """Layers of a complete packet: side information, and the stages."""
        return 1 + -(-self.stages // self.stages_per_layer)

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

    def scalable(self, stream: int) -> bool:
        """Layers of the pictures may be dropped; the sound stays whole."""
        return stream == 0

    def stage_range(self, layer: int) -> tuple[int, int]:
        """First and last stage of a layer, counted from 1; (0, 0) for side information."""
        if not layer:
            return 0, 0
        first = (layer - 1) * self.stages_per_layer
        return first + 1, min(self.stages, first + self.stages_per_layer)

    def stages_of(self, layers: int) -> int:
        """Stages of the first so many layers."""
        return min(self.stages, max(0, layers - 1) * self.stages_per_layer)

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

    def pack(self) -> bytes:
        """The bytes of the header.

        Raises:
            BitstreamError: the tags do not fit.
        """
        return seal(self.fields())

    def fields(self) -> bytes:
        """The header's fields, without magic, length and crc."""
        flags = self.still * _STILL | self.grey * _GREY | self.transparent * _TRANSPARENT
        flags |= (_CARRIED if self.carried else 0) | self.colours.matrix * _MATRIX | self.colours.full * _FULL
        numbers = (
            self.width,
            self.height,
            *self.tick.as_integer_ratio(),
            *self.frame_rate.as_integer_ratio(),
            0 if self.frames is None else self.frames + 1,
            self.stages,
            self.stages_per_layer,
            self.packet_frames,
            flags,
        )
        identity = pack_identity(KIND, self.model, self.model_hash, self.table_hash)
        audio = self.audio.fields() if self.audio else json_bytes(self.carried)
        return identity + varints(numbers) + pack_tags(self.tags) + sized(audio)

    @classmethod
    def unpack(cls, body: bytes) -> VisualHeader:
        """The header of its fields.

        Raises:
            ValueError: they are none.
        """
        fields = Cursor(body)
        identity = read_identity(fields, KIND)
        width, height, *rationals = fields.numbers(MAX_SIDE, MAX_SIDE, *[_MAX_RATIONAL] * 4)
        frames, stages, per_layer, group = fields.numbers(MAX_START, MAX_STAGES, MAX_STAGES, MAX_GROUP)
        flags = fields.number(2 * _FULL - 1)
        tags = read_tags(fields)
        audio = fields.sized(MAX_HEADER)
        if (
            not fields.done
            or 0 in (width, height, *rationals, per_layer, group)
            or width * height > MAX_PIXELS
        ):
            raise ValueError("its fields do not fit together")
        carried = json.loads(audio.decode("utf-8")) if flags & _CARRIED else None
        if flags & _CARRIED and not isinstance(carried, dict):
            raise ValueError("sound without a description")
        return cls(
            *identity,
            width,
            height,
            Fraction(*rationals[:2]),
            Fraction(*rationals[2:]),
            frames - 1 if frames else None,
            stages,
            per_layer,
            group,
            still=bool(flags & _STILL),
            grey=bool(flags & _GREY),
            transparent=bool(flags & _TRANSPARENT),
            colours=Colours(flags % _FULL // _MATRIX, bool(flags & _FULL)),
            tags=tags,
            audio=None if carried or not audio else header_of("audio").unpack(audio),
            carried=carried,
        )


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
        """The bytes of layer 0."""
        steps = [b - a for a, b in zip(self.times, self.times[1:], strict=False)]
        numbers = (
            self.quality + _SKIPPING * self.skipping,
            zigzag(self.times[0]),
            *steps,
        )  # the first time may lie before zero
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
