"""What `fsqcodec.load` returns: a codec for sound, or one for pictures and video, whatever model and engine is behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .audio.bitstream import AudioBitstream
    from .audio.header import AudioHeader
    from .audio.networks import AudioNetworks
    from .audio.tokens import Encoded, TokenPacket
    from .entropy.base import EntropyModel
    from .progress import Progress

Samples = NDArray[np.float32]
"""(channels, n), in [-1, 1]."""
Picture = NDArray[np.uint8]
"""RGB, (H, W, 3)."""


class ModelCodec(Protocol):
    """What codecs of all kinds tell of their model."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def model_hash(self) -> bytes:
        """8 bytes that say what the tokens mean: configuration and encoder weights."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Configuration and provenance of the model, as in its file: JSON values."""

    @property
    def stages(self) -> int:
        """Stages of the quantizer."""


class AudioCodec(ModelCodec, Protocol):
    """Encodes and decodes sound with one model.

    Example:
        >>> import fsqcodec, numpy as np
        >>> codec = fsqcodec.load("speech-24k")
        >>> t = np.arange(48000, dtype=np.float32) / 48000
        >>> encoded = codec.encode(0.1 * np.sin(2 * np.pi * 220 * t), sample_rate=48000, kbps=6)
        >>> data = codec.to_bytes(encoded)
        >>> back = codec.decode(codec.from_bytes(data))
        >>> back.shape, back.dtype
        ((1, 48000), dtype('float32'))
    """

    @property
    def sample_rate(self) -> int:
        """Hz of the model."""

    @property
    def frame_rate(self) -> float:
        """Latent frames in a second."""

    @property
    def delay(self) -> float:
        """Algorithmic delay in seconds."""

    @property
    def networks(self) -> AudioNetworks:
        """Encoder and decoder, for streams."""

    @property
    def coder(self) -> EntropyModel:
        """The entropy model that files and live packets are written with."""

    @property
    def bitstream(self) -> AudioBitstream:
        """Tokens ↔ packets of files."""

    def decode_blocks(
        self, packets: Iterable[TokenPacket], header: AudioHeader, stages: int | None = None, first: int = 0
    ) -> Iterator[Samples]:
        """Blocks float32 (channels, n) at the original's rate, of packets in order of time; lost frames are silence.

        `first` is the latent frame that the packets begin with.
        """

    def encode(
        self,
        samples: NDArray[np.floating],
        sample_rate: int | None = None,
        *,
        kbps: float | None = None,
        stages: int | None = None,
        tags: dict[str, str] | None = None,
        effort: int | None = 0,
    ) -> Encoded:
        """Tokens of samples (n,) or (channels, n) in [-1, 1].

        Args:
            samples: the audio.
            sample_rate: Hz; the model's own when None.
            kbps: keep as many stages as fit into this average bitrate of the file, at least one; what is left of it
                pays for one more in part of the frames.
            stages: keep this many stages (all when None).
            tags: title, artist, … to keep in the file.
            effort: steps of a search for better tokens (`fsqcodec.audio.rdo`), each some hundredths of the sound's
                duration; None for 32 where it lasts up to half a minute, fewer up to a minute (16) and none where it
                lasts longer, as `fsqcodec encode` does.

        Raises:
            ModelError: `effort` is asked of a model without a prior.
            ValueError: kbps or stages are not positive.
        """

    def encode_media(
        self,
        source: str | Path | IO[bytes],
        name: str | None = None,
        *,
        kbps: float | None = None,
        packet_seconds: float = 5.0,
        effort: int | None = 0,
        on_clock: bool = False,
        progress: Progress | None = None,
    ) -> Encoded:
        """Tokens of the sound of a media file, a path or an open file; memory holds a block, unless there is a search.

        Args:
            source: the file.
            name: what errors call it.
            kbps: as for `encode`, of a file with packets of `packet_seconds`.
            packet_seconds: length of a packet.
            effort: as for `encode`.
            on_clock: begin with silence where the sound begins later than the file's first stream, as beside pictures.
            progress: told of seconds of sound that are done.

        Raises:
            MediaError: it cannot be read, or has no sound.
            ModelError: `effort` is asked of a model without a prior.
        """

    def limit(
        self,
        encoded: Encoded,
        *,
        kbps: float | None = None,
        stages: int | None = None,
        packet_seconds: float = 5.0,
    ) -> Encoded:
        """The same tokens with fewer stages: `stages` of them, or as many as fit into `kbps`, at least one.

        Raises:
            ValueError: not a positive number.
        """

    def decode(self, encoded: Encoded, *, stages: int | None = None) -> Samples:
        """Samples float32 (channels, n) at the original's rate, of exactly the original's length."""

    def decode_media(self, encoded: Encoded, file: IO[bytes], suffix: str = ".wav") -> None:
        """Write the samples as a media file of the format that a suffix names.

        Raises:
            MediaError: there is no such format.
        """

    def write(self, encoded: Encoded, file: IO[bytes], packet_seconds: float = 5.0) -> int:
        """Write a `.fsq` file and return its bytes; a pipe will do."""

    def to_bytes(self, encoded: Encoded, packet_seconds: float = 5.0) -> bytes:
        """The bytes of a `.fsq` file."""

    def from_bytes(self, data: bytes, name: str = "bytes") -> Encoded:
        """Inverse of `to_bytes`.

        Raises:
            BitstreamError: the data are damaged.
            ModelError: they were made with another model.
        """


@dataclass(frozen=True)
class Video:
    """Decoded frames."""

    frames: NDArray[np.uint8]
    """RGB, (T, H, W, 3)."""
    seconds: NDArray[np.float64]
    """When each is shown, (T,)."""
    frame_rate: Fraction
    """Frames a second, on average."""


class VisualCodec(ModelCodec, Protocol):
    """Encodes and decodes pictures and video with one model.

    Example:
        >>> import fsqcodec, numpy as np
        >>> codec = fsqcodec.load("visual")
        >>> picture = np.full((50, 70, 3), 128, np.uint8)
        >>> codec.decode_picture(codec.encode_picture(picture, quality=4)).shape
        (50, 70, 3)
        >>> codec.decode_frames(codec.encode_frames([picture] * 3, 25)).frames.shape
        (3, 50, 70, 3)
    """

    @property
    def qualities(self) -> int:
        """Number of qualities; 1 is the lowest."""

    def encode_picture(
        self, picture: Picture, quality: int = 5, alpha: NDArray[np.uint8] | None = None
    ) -> bytes:
        """The bytes of a `.fsq` file of one RGB picture uint8 (H, W, 3).

        Args:
            picture: the picture.
            quality: 1 (smallest) … `qualities`.
            alpha: opacity uint8 (H, W), kept without loss.

        Raises:
            ValueError: there is no such quality.
        """

    def decode_picture(self, data: bytes, stages: int | None = None) -> Picture:
        """The first picture of a `.fsq` file, RGB uint8 (H, W, 3), or RGBA where it is transparent.

        Raises:
            BitstreamError: the data are damaged, or hold no picture.
            ModelError: they were made with another model.
        """

    def encode_frames(
        self,
        frames: Iterable[Picture],
        frame_rate: float | Fraction = 25,
        *,
        quality: int = 5,
        kbps: float | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """The bytes of a `.fsq` file of a video without sound.

        Args:
            frames: RGB uint8 (H, W, 3) each, all of one size: an array (T, H, W, 3), or an iterator; a group at a time is
                in memory.
            frame_rate: frames a second.
            quality: 1 (smallest) … `qualities`; the highest that is tried where `kbps` is given.
            kbps: average bitrate at most.
            progress: told of frames that are done.

        Raises:
            ValueError: no frames, frames of different sizes, or no such quality.
        """

    def decode_frames(self, data: bytes, stages: int | None = None) -> Video:
        """All frames of a `.fsq` file of a video.

        Raises:
            BitstreamError: the data are damaged, or hold no frame.
            ModelError: they were made with another model.
        """

    def encode_media(
        self,
        source: str | Path,
        *,
        quality: int = 5,
        kbps: float | None = None,
        audio: AudioCodec | Literal["copy", "none"] = "copy",
        audio_kbps: float = 6.0,
        progress: Progress | None = None,
    ) -> bytes:
        """The bytes of a `.fsq` file of a picture or a video file, with its sound.

        Args:
            source: the file.
            quality: 1 (smallest) … `qualities`; the highest that is tried where `kbps` is given.
            kbps: average bitrate at most, sound included; of a picture, its size in kbit.
            audio: a codec for the sound, or "copy" to pass it through as it is, or "none".
            audio_kbps: bitrate of each channel of sound that is coded.
            progress: told of frames that are done.

        Raises:
            MediaError: it cannot be read, or has no pictures.
            ValueError: there is no such quality.
        """

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
        """Write the picture or video of a `.fsq` file as a media file of the format that a suffix names.

        Args:
            data: bytes of the `.fsq` file.
            file: is written to.
            suffix: such as `.png` or `.mp4`.
            stages: decode at most this many.
            audio: the codec of its sound, where that was coded.
            progress: told of frames that are done.

        Raises:
            BitstreamError: the data are damaged.
            MediaError: there is no such format.
            ModelError: another model made them, or the sound wants one.
        """
