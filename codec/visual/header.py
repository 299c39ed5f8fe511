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
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ..bitstream.container import (
    MAX_HEADER,
    MAX_STAGES,
    VISUAL,
    Header,
    read_varint,
    seal,
    unzigzag,
    varint,
    zigzag,
)
from ..media.color import UNSAID, Colours

MAX_SIDE = 1 << 14
MAX_PIXELS = 1 << 26
MAX_GROUP = 256
"""Frames in a packet."""
_MAX_PACKET = 1 << 27
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
    audio: Header | None = None
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
        return 1 + (self.audio.channels if self.audio else bool(self.carried))

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

    def pack(self) -> bytes:
        """The bytes of the header.

        Raises:
            BitstreamError: the tags do not fit.
        """

        def text(values: dict[str, Any]) -> bytes:
            return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() if values else b""

        flags = self.still * _STILL | self.grey * _GREY | self.transparent * _TRANSPARENT
        flags |= (_CARRIED if self.carried else 0) | self.colours.matrix * _MATRIX | self.colours.full * _FULL
        audio = self.audio.fields() if self.audio else text(self.carried or {})
        name, tags = self.model.encode(), text(self.tags)
        numbers = (self.width, self.height, self.tick.numerator, self.tick.denominator, self.frame_rate.numerator,
                   self.frame_rate.denominator, 0 if self.frames is None else self.frames + 1, self.stages,
                   self.stages_per_layer, self.packet_frames, flags, len(tags))  # fmt: skip
        fields = varint(VISUAL) + varint(len(name)) + name + self.model_hash + self.table_hash
        return seal(fields + b"".join(map(varint, numbers)) + tags + varint(len(audio)) + audio)

    @classmethod
    def unpack(cls, body: bytes) -> VisualHeader:
        """The header of the bytes between its length and its crc.

        Raises:
            ValueError: they are none.
        """
        _, at = read_varint(body, 0, 1)
        size, at = read_varint(body, at, 256)
        name, at = body[at : at + size].decode("utf-8"), at + size
        hashes, at = body[at : at + 12], at + 12
        limits = (
            MAX_SIDE,
            MAX_SIDE,
            *[1 << 40] * 4,
            1 << 48,
            MAX_STAGES,
            MAX_STAGES,
            MAX_GROUP,
            2 * _FULL - 1,
            MAX_HEADER,
        )
        numbers = []
        for limit in limits:
            number, at = read_varint(body, at, limit)
            numbers.append(number)
        width, height, *rationals, frames, stages, per_layer, group, flags, size = numbers
        tags = json.loads(body[at : at + size].decode("utf-8")) if size else {}
        length, at = read_varint(body, at + size, MAX_HEADER)
        audio = body[at : at + length]
        if (
            at + length != len(body)
            or 0 in (width, height, *rationals, per_layer, group)
            or width * height > MAX_PIXELS
            or not isinstance(tags, dict)
            or not all(isinstance(value, str) for value in tags.values())
        ):
            raise ValueError("its fields do not fit together")
        carried = json.loads(audio.decode("utf-8")) if flags & _CARRIED else None
        if flags & _CARRIED and not isinstance(carried, dict):
            raise ValueError("sound without a description")
        return cls(
            name, hashes[:8], hashes[8:], width, height, Fraction(*rationals[:2]), Fraction(*rationals[2:]),
            frames - 1 if frames else None, stages, per_layer, group, bool(flags & _STILL), bool(flags & _GREY),
            bool(flags & _TRANSPARENT), Colours(flags % _FULL // _MATRIX, bool(flags & _FULL)), tags,
            None if carried or not audio else Header.unpack(audio), carried,
        )  # fmt: skip


_SKIPPING = 64
"""Added to the quality in a packet that skips; qualities are below."""


@dataclass(frozen=True)
class Side:
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
        return b"".join(map(varint, numbers)) + self.transparency

    @classmethod
    def unpack(cls, data: bytes, frames: int) -> Side:
        """Inverse of `pack`.

        Raises:
            ValueError: the data are damaged.
        """
        number, at = read_varint(data, 0, 255)
        skipping, quality = divmod(number, _SKIPPING)
        first, at = read_varint(data, at, 1 << 60)
        times = [unzigzag(first)]
        for _ in range(frames - 1):
            step, at = read_varint(data, at, 1 << 48)
            times.append(times[-1] + step)
        return cls(quality, tuple(times), data[at:], bool(skipping))
