"""The codec for pictures and video: files and arrays ↔ `.fsq` bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..bitstream.reader import Reader
from ..bitstream.writer import Writer
from ..errors import ModelError
from ..media.audio import has_sound
from ..media.video_reader import Frame, FrameReader, Picture, VideoFacts
from ..progress import Progress
from .groups import GroupCodec
from .model import VisualConfig, VisualModel
from .movie import DEFAULT_QUALITY, MovieDecoder, Source, encode_movie
from .prior import VisualPrior
from .sound import SOUND_KBPS, Sound, SoundOf, coded_sound, copied_sound, decode_sound, no_sound, read_sound

if TYPE_CHECKING:
    from ..protocols import AudioCodec, Video


class NeuralVisualCodec(GroupCodec):
    """The `fsqcodec.VisualCodec` of a convolutional model. Made by `fsqcodec.load`."""

    # pictures

    def encode_picture(
        self, picture: Picture, quality: int = DEFAULT_QUALITY, alpha: NDArray[np.uint8] | None = None
    ) -> bytes:
        """The bytes of a `.fsq` file of one RGB picture uint8 (H, W, 3).

        Args:
            picture: the picture.
            quality: 1 (smallest) … `qualities`.
            alpha: opacity uint8 (H, W), kept without loss.

        Raises:
            ValueError: there is no such quality.
        """
        self._check_quality(quality)
        file = io.BytesIO()
        header = self.header(*picture.shape[:2], still=True, packet_frames=1, transparent=alpha is not None)
        writer = Writer(file, header)
        writer.write(self.encode_group([Frame(picture, 0, alpha)], 0, quality))
        writer.finish()
        return file.getvalue()

    def decode_picture(self, data: bytes, stages: int | None = None) -> Picture:
        """The first picture of a `.fsq` file, RGB uint8 (H, W, 3), or RGBA where it is transparent.

        Raises:
            BitstreamError: the data are damaged, or hold no picture.
            ModelError: they were made with another model.
        """
        reader = Reader(io.BytesIO(data), "bytes")
        header = self.check(reader)
        for packet in reader:
            if packet.stream == 0:
                frame = next(self.decode_group(packet, header, stages))
                if frame.alpha is None:
                    return frame.picture
                return np.concatenate([frame.picture, frame.alpha[..., None]], -1)
        raise reader.error(reader.position, "holds no picture")

    # video

    def encode_frames(
        self,
        frames: Iterable[Picture],
        frame_rate: float | Fraction = 25,
        *,
        quality: int = DEFAULT_QUALITY,
        kbps: float | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """See `VisualCodec.encode_frames`."""
        rate = Fraction(frame_rate).limit_denominator(1 << 20)
        coming = (Frame(picture, number) for number, picture in enumerate(frames))
        first = next(coming, None)
        if first is None:
            raise ValueError("no frames to encode")
        height, width = first.picture.shape[:2]
        source = Source(VideoFacts(width, height, 1 / rate, rate), _joined(first, coming))
        return self._encode(source, no_sound(), quality, kbps, progress)

    def decode_frames(self, data: bytes, stages: int | None = None) -> Video:
        """See `VisualCodec.decode_frames`."""
        from ..protocols import Video

        reader = Reader(io.BytesIO(data), "bytes")
        header = self.check(reader)
        frames = list(MovieDecoder(self, reader).frames(header, stages))
        if not frames:
            raise reader.error(reader.position, "holds no frame")
        times = np.array([float(frame.time * header.tick) for frame in frames])
        return Video(np.stack([frame.picture for frame in frames]), times, header.frame_rate)

    # media files

    def encode_media(
        self,
        source: str | Path,
        *,
        quality: int = DEFAULT_QUALITY,
        kbps: float | None = None,
        audio: AudioCodec | Literal["copy", "none"] = "copy",
        audio_kbps: float = SOUND_KBPS,
        progress: Progress | None = None,
    ) -> bytes:
        """See `VisualCodec.encode_media`."""
        sound = no_sound()
        with FrameReader(source) as reader:
            if not reader.facts.still and audio != "none" and has_sound(source):
                sound = _sound(source, audio, audio_kbps, progress)
            return self._encode(Source.of(reader), sound, quality, kbps, progress)

    def decode_media(
        self,
        data: bytes,
        file: IO[bytes],
        suffix: str,
        *,
        stages: int | None = None,
        audio: AudioCodec | None = None,
        progress: Progress | None = None,
    ) -> None:
        """See `VisualCodec.decode_media`."""
        reader = Reader(io.BytesIO(data), "bytes")
        header = self.check(reader)
        decoder = MovieDecoder(self, reader)
        if header.still:
            file.write(decoder.still(suffix, stages))
            return
        if header.audio:
            if audio is None:
                raise ModelError(f"its sound was coded by {header.audio.model}: give that model as `audio`")
            decoder.sound = decode_sound(audio, SoundOf(Reader(io.BytesIO(data), "bytes")), False)
        decoder.movie(file, suffix, stages, progress)

    def _encode(
        self, source: Source, sound: Sound, quality: int, kbps: float | None, progress: Progress | None
    ) -> bytes:
        self._check_quality(quality)
        target = io.BytesIO()
        encode_movie(self, source, target, sound, quality, kbps, progress)
        return target.getvalue()

    def _check_quality(self, quality: int) -> None:
        if not 1 <= quality <= self.qualities:
            raise ValueError(f"quality must be 1 … {self.qualities}")


def _joined(first: Frame, rest: Iterable[Frame]) -> Iterable[Frame]:
    yield first
    for frame in rest:
        if frame.picture.shape != first.picture.shape:
            raise ValueError(f"frames of different sizes: {first.picture.shape} and {frame.picture.shape}")
        yield frame


def _sound(source: str | Path, audio: AudioCodec | str, kbps: float, progress: Progress | None) -> Sound:
    if isinstance(audio, str):
        return copied_sound(source)
    encoded = read_sound(source, audio, kbps, 0, progress)
    return coded_sound(audio, encoded) if encoded else no_sound()


class VisualWeights(NamedTuple):
    """Contents of a picture model's file."""

    model: VisualModel
    """Networks, float32."""
    prior: VisualPrior | None

    @classmethod
    def restore(
        cls, config: dict[str, Any], tensors: dict[str, Tensor], integers: dict[str, NDArray[np.integer]]
    ) -> VisualWeights:
        """The weights of a model file's configuration, tensors and integers of the prior.

        Raises:
            ValueError: they do not fit together.
            ModelError: the prior is damaged.
        """
        model = VisualModel(VisualConfig.from_dict(config))
        model.load_state_dict(tensors)
        return cls(model, VisualPrior(integers, model.config) if integers else None)

    def codec(self, name: str, model_hash: bytes, metadata: dict[str, Any]) -> NeuralVisualCodec:
        """The codec of these weights.

        Raises:
            ModelError: they are not finished.
        """
        if self.prior is None:
            raise ModelError("has no prior yet; let `fsqcodec train` finish it")
        return NeuralVisualCodec(name, self.model, self.prior, model_hash, metadata)
