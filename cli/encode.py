"""`fsqcodec encode`: media files to `.fsq`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from fsqcodec.bitstream.container import PACKET_SECONDS

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
    load_codec,
    open_source,
    open_target,
    plan,
    run,
)
from .pictures import PICTURES, VIDEO, encode_pictures, looks_like_pictures


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
        float | None, typer.Option(min=0.01, help="Bits a picture element, at most, for pictures and video.")
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
    from fsqcodec.media.audio import SOUND

    tasks = plan(inputs, out_dir, ".fsq", lambda file: file.suffix.lower() in SOUND | PICTURES | VIDEO)
    # A bitrate asks for the best quality that fits; a quality beside it is where the search begins.
    both = {"kbps": kbps, "effort": None if effort == "auto" else int(effort), "overwrite": overwrite}
    sound = {"model": model, "packet": packet, "prior": prior, **both}
    pictures = {"model": picture_model, "quality": quality or 5, "bpp": bpp, "audio": audio, "audio_model": model,
                "quiet": quiet, **both}  # fmt: skip
    run(tasks, encode_any, {"sound": sound, "pictures": pictures}, jobs, quiet, verbose)


def encode_any(task: Task, progress: Any, sound: dict[str, Any], pictures: dict[str, Any]) -> str:
    """Encode one file of sound or of pictures, as its contents say."""
    if looks_like_pictures(task.source):
        return encode_pictures(task, progress, **pictures)
    return encode_file(task, progress, **sound)


def encode_file(
    task: Task, progress: Any, model: str, kbps: float | None, packet: float, effort: int | None, prior: str, overwrite: bool
) -> str:  # fmt: skip
    """Encode one file; returns a line that says what came of it."""
    with open_target(task.target, overwrite) as target:
        codec = load_codec(model)
        codec = codec.without_prior() if prior == "none" else codec
        with open_source(task.source) as file:
            encoded = codec.encode_media(
                file, task.source, kbps=kbps, packet_seconds=packet, effort=effort, watch=progress
            )
        size = codec.write(encoded, target, packet)
    rate = f", {size * 8 / 1000 / encoded.seconds:.2f} kbit/s" if encoded.seconds else ""
    return f"{task.source} → {task.target}: {encoded.seconds:.1f} s, {encoded.tokens.shape[1]} stages{rate}"
