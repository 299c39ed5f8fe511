"""Pictures and video with their sound: media to `.fsq` and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO

from ..bitstream.reader import Reader
from ..errors import ConfigError, MediaError
from ..media.audio import has_sound
from ..media.image import STILLS
from ..media.video_reader import FrameReader
from ..progress import Progress
from ..protocols import AudioCodec
from ..visual.codec import NeuralVisualCodec
from ..visual.movie import DEFAULT_QUALITY, MovieDecoder, Source, encode_movie
from ..visual.sound import (
    SOUND_KBPS,
    Sound,
    SoundOf,
    coded_sound,
    copied_sound,
    decode_sound,
    no_sound,
    read_sound,
)
from .outcome import Outcome
from .span import Span

LoadAudio = Callable[[], AudioCodec]
"""Opens the codec for sound, where there is any."""


def encode(
    codec: NeuralVisualCodec,
    path: str,
    name: str,
    target: IO[bytes],
    *,
    load_audio: LoadAudio,
    quality: int = DEFAULT_QUALITY,
    kbps: float | None = None,
    bpp: float | None = None,
    audio: str = "speech",
    effort: int | None = 0,
    progress: Progress | None = None,
    notify: Callable[[str], None] = print,
) -> Outcome:
    """Encode a picture or video file.

    Args:
        codec: for pictures.
        path: of the file.
        name: what errors call it.
        target: takes the `.fsq` file.
        load_audio: opens the codec for its sound.
        quality: 1 … codec.qualities; the highest that is tried where a bitrate is given.
        kbps: average bitrate at most, sound included; of a picture, its size in kbit.
        bpp: bits a pixel at most, in place of `kbps`.
        audio: its sound is coded ("speech"), passed through ("copy") or left out ("none").
        effort: steps of the search for its sound; see `AudioCodec.encode`.
        progress: told of frames that are done.
        notify: told in a line what is not kept.

    Raises:
        ConfigError: there is no such quality.
        MediaError: it cannot be read, or has no pictures.
    """
    with FrameReader(path, name) as reader:
        facts = reader.facts
        if reader.deep:
            notify(f"{name}: more than 8 bits a sample are rounded to 8")
        if facts.transparent and not facts.still:
            notify(f"{name}: transparency of videos is not kept")
        if not 1 <= quality <= codec.qualities:
            raise ConfigError(f"--quality {quality}: there are 1 … {codec.qualities}")
        pixels = facts.width * facts.height
        if bpp is not None:
            kbps = bpp * pixels * (1.0 if facts.still else float(facts.frame_rate)) / 1000
        sound = no_sound()
        if not facts.still and audio == "copy" and has_sound(path):
            sound = copied_sound(path)
        elif not facts.still and audio == "speech":
            sound = _coded(path, load_audio(), kbps, effort, progress)
        if progress:
            progress.start(Path(name).name, reader.frames or None, "frames")
        made = encode_movie(codec, Source.of(reader), target, sound, quality, kbps, progress)
    each = made.size * 8 / pixels / max(1, made.frames)
    seconds = made.frames / float(facts.frame_rate)
    rate = "" if facts.still else f", {made.size * 8 / 1000 / seconds:.1f} kbit/s"
    return Outcome(f"{facts.width}×{facts.height}, {made.frames} frames, {each:.3f} bpp{rate}")


def _coded(
    path: str, codec: AudioCodec, kbps: float | None, effort: int | None, progress: Progress | None
) -> Sound:
    """A video's sound, coded within a quarter of the bitrate."""
    most = min(SOUND_KBPS, kbps / 4) if kbps else SOUND_KBPS
    encoded = read_sound(path, codec, most, effort, progress)
    return coded_sound(codec, encoded) if encoded else no_sound()


def decode(
    codec: NeuralVisualCodec,
    reader: Reader,
    target: IO[bytes],
    suffix: str,
    *,
    load_audio: LoadAudio,
    sound_file: IO[bytes],
    stages: int | None = None,
    span: Span = Span(),
    label: str = "",
    progress: Progress | None = None,
    notify: Callable[[str], None] = print,
) -> Outcome:
    """Decode an open `.fsq` file of a picture or video; of one that was cut, what is there.

    Args:
        codec: the model that it was made with.
        reader: the file; where it keeps going, what is lost is told to `notify`.
        target: takes the media file.
        suffix: its format; PNG or YUV4MPEG2 when empty.
        load_audio: opens the codec for its sound.
        sound_file: the file once more, since sound is read as far as pictures have come.
        stages: decode at most this many.
        span: what is wanted of it.
        label: what progress calls it.
        progress: told of frames that are done.
        notify: told in a line what was lost.

    Raises:
        BitstreamError: it is damaged, and the reader does not keep going; or nothing lies in the span.
        MediaError: the format cannot be written, or is for another kind.
        ModelError: it was made with another model.
    """
    name, header = reader.name, codec.check(reader)
    suffix = suffix or (".png" if header.still else ".y4m")
    if suffix in STILLS and not header.still:
        raise MediaError(f"{name}: is a video; name a video file such as .mp4 or .mkv")
    if header.still and not span.whole:
        raise MediaError(f"{name}: is a picture; --start and --duration cut sound and video")
    if header.still and suffix not in STILLS:
        raise MediaError(f"{name}: is a picture; name an image file: {', '.join(STILLS)}")
    decoder = MovieDecoder(codec, reader)
    size = f"{header.width}×{header.height}"
    if header.still:
        target.write(decoder.still(suffix, stages))
        return Outcome(size)
    if header.audio:
        source = SoundOf(Reader(sound_file, name, reader.keep_going))
        decoder.sound = decode_sound(load_audio(), source, reader.keep_going)
    if progress:
        progress.start(label, header.frames, "frames")
    count = decoder.movie(target, suffix, stages, progress, span.start, span.duration)
    if decoder.repeated or decoder.dropped:
        notify(
            f"{name}: {suffix} has one frame rate, {float(header.frame_rate):.3f} a second: "
            f"{decoder.repeated} frames were repeated and {decoder.dropped} left out"
        )
    if decoder.lost or reader.lost:
        notify(f"{name}: {decoder.lost} damaged groups and {reader.lost} bytes were skipped")
    return Outcome(f"{size}, {count} frames", f"{name}: {reader.missing}" if reader.missing else "")
