"""Pictures and video for `encode` and `decode`: the same commands, other networks."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .common import Task, console, load_codec, open_target

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".gif"}
VIDEO = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".y4m", ".mpg", ".mpeg", ".ts", ".ogv", ".flv"}
_MAGIC = (
    b"YUV4MPEG2",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"BM",
    b"GIF8",
    b"\x1aE\xdf\xa3",
    b"P6",
    b"II*\0",
    b"MM\0*",
)


def looks_like_pictures(source: str) -> bool:
    """Whether an input holds pictures: by what is in it, not by its name; a pipe by its first bytes."""
    if source != "-":
        from fsqcodec.media.video_reader import has_pictures

        return Path(source).is_file() and has_pictures(source)
    head = sys.stdin.buffer.peek(16)[:16] if hasattr(sys.stdin.buffer, "peek") else b""
    return head.startswith(_MAGIC) or head[4:8] == b"ftyp" or head[8:12] == b"WEBP"


@contextlib.contextmanager
def on_disk(source: str) -> Iterator[str]:
    """A file's name; standard input becomes a temporary file, since sound and pictures are read apart."""
    if source != "-":
        yield source
        return
    with tempfile.NamedTemporaryFile(prefix="fsqcodec-") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield file.name


def encode_pictures(
    task: Task, progress: Any, model: str, quality: int, kbps: float | None, bpp: float | None, audio: str,
    audio_model: str, effort: int | None, overwrite: bool, quiet: bool,
) -> str:  # fmt: skip
    """Encode one picture or video; returns a line that says what came of it."""
    from fsqcodec.files.video import SOUND_KBPS, carried_sound, coded_sound, encode_film, no_sound, read_sound
    from fsqcodec.media.audio import has_sound
    from fsqcodec.media.video_reader import FrameReader

    with open_target(task.target, overwrite) as target, on_disk(task.source) as path, FrameReader(path, task.source) as reader:  # fmt: skip
        codec, facts = load_codec(model), reader.facts
        if reader.deep and not quiet:
            console.print(f"{task.source}: more than 8 bits a sample are rounded to 8", markup=False)
        if facts.transparent and not facts.still and not quiet:
            console.print(f"{task.source}: transparency of videos is not kept", markup=False)
        if not 1 <= quality <= codec.qualities:
            from fsqcodec.errors import ConfigError

            raise ConfigError(f"--quality {quality}: there are 1 … {codec.qualities}")
        elements = facts.width * facts.height
        if bpp is not None:
            kbps = bpp * elements * (1.0 if facts.still else float(facts.frame_rate)) / 1000
        sound = no_sound()
        if not facts.still and audio == "copy" and has_sound(path):
            sound = carried_sound(path)
        elif not facts.still and audio == "speech":
            spoken = load_codec(audio_model)
            most = min(SOUND_KBPS, kbps / 4) if kbps else SOUND_KBPS
            encoded = read_sound(path, spoken, most, effort, progress)
            sound = coded_sound(spoken, encoded) if encoded else sound
        if progress:
            progress.start(Path(task.source).name, reader.frames or None, "frames")
        count = 0

        def step(frames: int) -> None:
            nonlocal count
            count += frames
            if progress:
                progress.advance(frames)

        size = encode_film(codec, reader, target, sound, quality, kbps, step)
    each = size * 8 / elements / max(1, count)
    rate = "" if facts.still else f", {size * 8 / 1000 / (count / float(facts.frame_rate)):.1f} kbit/s"
    return (
        f"{task.source} → {task.target}: {facts.width}×{facts.height}, {count} frames, {each:.3f} bpp{rate}"
    )


def decode_pictures(
    task: Task, progress: Any, reader: Any, target: IO[bytes], model: str, audio_model: str,
    stages: int | None, start: float, duration: float | None, quiet: bool,
) -> str:  # fmt: skip
    """Decode an open file of pictures into an open target; returns a line that says what came of it."""
    from fsqcodec.bitstream.reader import Reader
    from fsqcodec.errors import MediaError
    from fsqcodec.files.video import FilmDecoder, SoundOf, decode_sound
    from fsqcodec.media.image import STILLS
    from fsqcodec.visual.header import VisualHeader

    name, header, keep_going = reader.name, reader.header, reader.keep_going
    assert isinstance(header, VisualHeader)
    suffix = Path(task.target).suffix.lower() if task.target != "-" else ".png" if header.still else ".y4m"
    if suffix in STILLS and not header.still:
        raise MediaError(f"{name}: is a video; name a video file such as .mp4 or .mkv")
    if header.still and (start or duration is not None):
        raise MediaError(f"{name}: is a picture; --start and --duration cut sound and video")
    if header.still and suffix not in STILLS:
        raise MediaError(f"{name}: is a picture; name an image file: {', '.join(STILLS)}")
    decoder = FilmDecoder(load_codec(model), reader)
    if header.still:
        target.write(decoder.still(suffix, stages))
        return f"{task.source} → {task.target}: {header.width}×{header.height}"
    with contextlib.ExitStack() as opened:
        if header.audio and task.source != "-":
            # Sound is read by a handle of its own, as far as the pictures have come.
            sound_file = opened.enter_context(open(task.source, "rb"))
            source = SoundOf(Reader(sound_file, name, keep_going))
            decoder.sound = decode_sound(load_codec(audio_model), source, keep_going)
        elif header.audio and not quiet:
            console.print(f"{name}: sound is left out when reading from a pipe", markup=False)
        if progress:
            progress.start(Path(task.source).name, header.frames, "frames")
        count = decoder.movie(target, suffix, stages, progress.advance if progress else None, start, duration)
    if (decoder.lost or reader.lost) and not quiet:
        console.print(
            f"{name}: {decoder.lost} damaged groups and {reader.lost} bytes were skipped", markup=False
        )
    return f"{task.source} → {task.target}: {header.width}×{header.height}, {count} frames"
