"""`fsqcodec encode`: media files to `.fsq`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Annotated

import typer
from fsqcodec.bitstream.writer import PACKET_SECONDS

from .common import (
    DEFAULT_MODEL,
    DEFAULT_PICTURE_MODEL,
    Inputs,
    Jobs,
    Model,
    OutDir,
    Overwrite,
    PictureModel,
    Quiet,
    Task,
    Verbose,
    load_audio,
    load_visual,
    open_source,
    open_target,
    plan,
    run,
    say,
)

if TYPE_CHECKING:
    from fsqcodec.files.outcome import Outcome
    from fsqcodec.progress import Progress


def encode(
    inputs: Inputs,
    kbps: Annotated[
        float | None,
        typer.Option(min=0.1, help="Average bitrate of the file, at most. Full rate when left out."),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(min=1, max=8, help="Of pictures and video, 1 (smallest) to 8. 5 when left out."),
    ] = None,
    bpp: Annotated[
        float | None, typer.Option(min=0.01, help="Bits a pixel, at most, for pictures and video.")
    ] = None,
    audio: Annotated[
        str, typer.Option(help="A video's sound: speech (coded like speech), copy (bit for bit) or none.")
    ] = "speech",
    packet: Annotated[
        float, typer.Option(min=0.02, max=20, help="Seconds of sound in a packet, which decodes by itself.")
    ] = PACKET_SECONDS,
    effort: Annotated[
        str,
        typer.Option(
            help="Steps of a search for better tokens of sound, such as 32; 0 for none: many times as fast, and as live sound. "
            "auto: 32 for sound of up to half a minute, fewer up to a minute (16), none beyond."
        ),
    ] = "auto",
    prior: Annotated[
        str,
        typer.Option(help="learned, or none: larger files of sound, by static tables, quicker to decode."),
    ] = "learned",
    model: Model = DEFAULT_MODEL,
    picture_model: PictureModel = DEFAULT_PICTURE_MODEL,
    out_dir: OutDir = None,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Encode sound, pictures or video: any file that FFmpeg reads becomes a small .fsq file.

    [bold]Examples[/bold]

    fsqcodec encode talk.mp3 talk.fsq --kbps 6

    fsqcodec encode lecture.mp3 lecture.fsq --kbps 3 --effort 16

    fsqcodec encode recordings/ --out-dir small/ --jobs 2

    fsqcodec encode photo.png photo.fsq --quality 6

    fsqcodec encode clip.mp4 clip.fsq --kbps 300 --audio copy

    cat talk.wav | fsqcodec encode - - > talk.fsq
    """
    if prior not in ("learned", "none"):
        raise typer.BadParameter(f"{prior!r} is not learned or none", param_hint="--prior")
    if audio not in ("speech", "copy", "none"):
        raise typer.BadParameter(f"{audio!r} is not speech, copy or none", param_hint="--audio")
    if effort != "auto" and not effort.isdecimal():
        raise typer.BadParameter(f"{effort!r} is not auto or a number of steps", param_hint="--effort")
    if kbps is not None and bpp is not None:
        raise typer.BadParameter("give --kbps or --bpp, not both")
    from fsqcodec.files.inputs import PICTURES, VIDEO
    from fsqcodec.media.audio import SOUND

    tasks = plan(inputs, out_dir, ".fsq", lambda file: file.suffix.lower() in SOUND | PICTURES | VIDEO)
    steps = None if effort == "auto" else int(effort)
    # A bitrate asks for the best quality that fits; a quality beside it is where the search begins.
    wanted = Wanted(model, picture_model, kbps, quality or 5, bpp, audio, packet, steps, prior == "learned")
    run(tasks, encode_file, {"wanted": wanted, "overwrite": overwrite, "quiet": quiet}, jobs, quiet, verbose)


@dataclass(frozen=True)
class Wanted:
    """What `fsqcodec encode` was asked for."""

    model: str
    picture_model: str
    kbps: float | None
    quality: int
    bpp: float | None
    audio: str
    packet_seconds: float
    effort: int | None
    learned: bool


def encode_file(
    task: Task, progress: Progress | None, wanted: Wanted, overwrite: bool, quiet: bool
) -> Outcome:
    """Encode one file of sound or of pictures, as its contents say."""
    from fsqcodec.files.inputs import looks_like_pictures

    code = _pictures if looks_like_pictures(task.source) else _sound
    with open_target(task.target, overwrite) as target:
        return code(task, target, progress, wanted, quiet)


def _sound(task: Task, target: IO[bytes], progress: Progress | None, wanted: Wanted, quiet: bool) -> Outcome:
    from fsqcodec.files import audio

    codec = load_audio(wanted.model)
    with open_source(task.source) as source:
        return audio.encode(
            codec if wanted.learned else codec.without_prior(),
            source,
            task.source,
            target,
            kbps=wanted.kbps,
            packet_seconds=wanted.packet_seconds,
            effort=wanted.effort,
            progress=progress,
        )


def _pictures(
    task: Task, target: IO[bytes], progress: Progress | None, wanted: Wanted, quiet: bool
) -> Outcome:
    from fsqcodec.files import inputs, video

    with inputs.on_disk(task.source) as path:
        return video.encode(
            load_visual(wanted.picture_model),
            path,
            task.source,
            target,
            load_audio=lambda: load_audio(wanted.model),
            quality=wanted.quality,
            kbps=wanted.kbps,
            bpp=wanted.bpp,
            audio=wanted.audio,
            effort=wanted.effort,
            progress=progress,
            notify=say(quiet),
        )
