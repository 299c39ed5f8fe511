"""Header of sound in a `.fsq` file: typed fields, or up to version 3

    fields  = 0  name:bytes  model_hash:8  table_hash:4  frame_samples  frame_rate  sample_rate  channels
              samples+1  stages  stages_per_layer  packet_frames  mid_side  tags:bytes(JSON)

A latent frame lasts frame_samples / frame_rate seconds. Layers hold `stages_per_layer` stages each, in order of importance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..bitstream.fields import Field, FieldReader, pack_fields
from ..bitstream.header import (
    COMMON,
    LENGTH,
    STAGES,
    TYPED,
    Layered,
    common_fields,
    read_identity,
    read_length,
    read_plain_identity,
    read_plain_stages,
    read_plain_tags,
    read_tags,
)
from ..bitstream.packet import MAX_FRAMES, MAX_PACKET
from ..bitstream.primitives import Cursor
from ..bitstream.stats import FileStats

KIND = 0
MAX_STREAMS = 64
MAX_SAMPLE_RATE = 1 << 20
FRAME = Field(16, "samples of a latent frame, Hz of the model", True, (MAX_SAMPLE_RATE, MAX_SAMPLE_RATE))
ORIGINAL = Field(17, "sample rate and channels of the original", True, (MAX_SAMPLE_RATE, MAX_STREAMS))
STEREO = Field(18, "mid and side", True, (1,))
LAYOUT = Field(19, "layout of the channels", False, size=255)
FIELDS = (FRAME, ORIGINAL, STEREO, LAYOUT)


@dataclass(frozen=True)
class AudioHeader(Layered):
    """What a file of sound says of itself; a `fsqcodec.bitstream.header.FileHeader`."""

    model: str
    model_hash: bytes
    """8 bytes: what the tokens mean (quantizer and encoder)."""
    table_hash: bytes
    """4 bytes: the learned prior, or the static tables, that the layers are coded with."""
    frame_samples: int
    """Samples in a latent frame, at `frame_rate`."""
    frame_rate: int
    """Hz of the model."""
    sample_rate: int
    """Hz of the original, which decoding restores."""
    channels: int
    samples: int | None
    """Samples a channel of the original at its rate; None when it was not known."""
    stages: int
    """Stages that were written."""
    stages_per_layer: int
    packet_frames: int
    """Latent frames in a packet; the last may have up to twice as many."""
    mid_side: bool = False
    """The two streams are (left + right) / 2 and (left - right) / 2."""
    tags: dict[str, str] = field(default_factory=dict)
    layout: str = ""
    """FFmpeg's name of the channels' layout; the usual one for their number when empty."""

    @property
    def streams(self) -> int:
        """Streams of packets: one a channel."""
        return self.channels

    @property
    def max_packet(self) -> int:
        """Bytes that a packet may claim."""
        return MAX_PACKET

    @property
    def seconds(self) -> float | None:
        """Duration; None when it was not known."""
        return None if self.samples is None else self.samples / self.sample_rate

    def span(self, frames: int) -> float:
        """Seconds of so many latent frames."""
        return frames * self.frame_samples / self.frame_rate

    def packet_limits(self, stream: int) -> tuple[int, int]:
        """Layers and frames that a packet of a stream may have at most; the last one takes what is left over."""
        return self.layers, min(MAX_FRAMES, 2 * self.packet_frames)

    def covered(self, ends: Sequence[int]) -> bool:
        """Whether streams that end with these frames are all that the header tells of."""
        return self.seconds is not None and all(self.span(end) >= self.seconds for end in ends)

    def shortfall(self, ends: Sequence[int], indexed: bool) -> float:
        """Seconds that are missing where the streams end with these frames; 0 where the length was not known.

        The samples were counted, so `indexed` changes nothing.
        """
        return 0.0 if self.seconds is None else max(0.0, self.seconds - min(map(self.span, ends)))

    def scalable(self, stream: int) -> bool:
        """Layers of any stream may be dropped."""
        return True

    def peeled(self, layers: int) -> AudioHeader:
        """The header of the file whose packets keep so many layers."""
        return replace(self, stages=self.stages_of(layers))

    def facts(self, stats: FileStats) -> dict[str, Any]:
        """What `fsqcodec info` tells of sound."""
        return {
            "kind": "sound",
            "streams": self.channels,
            "mid_side": self.mid_side,
            "sample_rate": self.sample_rate,
            "samples": self.samples,
            **({"layout": self.layout} if self.layout else {}),
            "frames_per_second": self.frame_rate / self.frame_samples,
            "packet_seconds": self.span(self.packet_frames),
            "frames_without_the_last_stage": stats.tails,
        }

    def fields(self) -> bytes:
        """The header's typed fields.

        Raises:
            BitstreamError: a file cannot hold one.
        """
        values = common_fields(self, KIND, self.packet_frames, self.stages_per_layer, self.samples)
        values[FRAME] = FRAME.numbers(self.frame_samples, self.frame_rate)
        values[ORIGINAL] = ORIGINAL.numbers(self.sample_rate, self.channels)
        if self.mid_side:
            values[STEREO] = STEREO.numbers(1)
        if self.layout:
            values[LAYOUT] = LAYOUT.data(self.layout.encode())
        return pack_fields(values)

    @classmethod
    def unpack(cls, body: bytes, version: int) -> AudioHeader:
        """The header of the fields of a file of a version.

        Raises:
            ValueError: they are none.
        """
        header = cls._typed(body) if version >= TYPED else cls._plain(body)
        needed = (header.frame_samples, header.frame_rate, header.sample_rate, header.channels)
        if 0 in (*needed, header.stages_per_layer, header.packet_frames) or (
            header.mid_side and header.channels != 2
        ):
            raise ValueError("its fields do not fit together")
        return header

    @classmethod
    def _typed(cls, body: bytes) -> AudioHeader:
        fields = FieldReader(body, (*COMMON, *FIELDS))
        per_layer, packet_frames, stages = fields.numbers(STAGES)
        frame_samples, frame_rate = fields.numbers(FRAME)
        sample_rate, channels = fields.numbers(ORIGINAL)
        (stereo,) = fields.numbers(STEREO, (0,))
        return cls(
            *read_identity(fields),
            frame_samples,
            frame_rate,
            sample_rate,
            channels,
            read_length(fields),
            stages,
            per_layer,
            packet_frames,
            bool(stereo),
            read_tags(fields),
            fields.data(LAYOUT, b"").decode("utf-8"),
        )

    @classmethod
    def _plain(cls, body: bytes) -> AudioHeader:
        """Up to version 3."""
        fields = Cursor(body)
        identity = read_plain_identity(fields, KIND)
        frame_samples, frame_rate = fields.numbers(*FRAME.limits)
        sample_rate, channels = fields.numbers(*ORIGINAL.limits)
        samples = fields.number(*LENGTH.limits)
        stages, per_layer, packet_frames = read_plain_stages(fields)
        mid_side = fields.number(*STEREO.limits)
        tags = read_plain_tags(fields)
        if not fields.done:
            raise ValueError("its fields do not fit together")
        return cls(
            *identity,
            frame_samples,
            frame_rate,
            sample_rate,
            channels,
            samples - 1 if samples else None,
            stages,
            per_layer,
            packet_frames,
            bool(mid_side),
            tags,
        )
