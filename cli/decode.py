"""`fsqcodec decode`: `.fsq` files to media files."""

from __future__ import annotations

import io
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, cast

import typer

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


def decode(
    inputs: Inputs,
    kbps: Annotated[
        float | None, typer.Option(min=0.1, help="Decode the layers within this bitrate only.")
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Decode what is intact of a damaged file; gaps become silence."),
    ] = False,
    start: Annotated[
        float, typer.Option(min=0, help="Begin at this second; the file's index makes that quick.")
    ] = 0.0,
    duration: Annotated[float | None, typer.Option(min=0, help="Decode this many seconds.")] = None,
    sample_format: Annotated[
        str, typer.Option(help="int16, int24 or float32 samples in .wav files.")
    ] = "int16",
    to: Annotated[str, typer.Option(help="Extension of the files in --out-dir.")] = ".wav",
    model: Model = DEFAULT_MODEL,
    picture_model: PictureModel = DEFAULT_PICTURE_MODEL,
    out_dir: OutDir = None,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Decode .fsq files; the output's extension says its format.

    Sound: .wav, .flac, .mp3, .m4a, .opus … Pictures: .png, .jpg, .webp … Video: .mp4, .mov (H.264), .mkv (without loss), .y4m.

    [bold]Examples[/bold]

    fsqcodec decode talk.fsq talk.wav

    fsqcodec decode small/ --out-dir back/ --to .flac --jobs 2

    fsqcodec decode clip.fsq clip.mp4 --start 60 --duration 5

    fsqcodec decode talk.fsq - --kbps 1.5 | aplay
    """
    if sample_format not in ("int16", "int24", "float32"):
        raise typer.BadParameter(
            f"{sample_format!r} is not int16, int24 or float32", param_hint="--sample-format"
        )
    suffix = to if to.startswith(".") else f".{to}"
    tasks = plan(inputs, out_dir, suffix, lambda file: file.suffix == ".fsq")
    wanted = Wanted(model, picture_model, kbps, start, duration, keep_going, sample_format)
    options = {"wanted": wanted, "overwrite": overwrite, "quiet": quiet}
    run(tasks, decode_file, options, jobs, quiet, verbose, keep_going)


@dataclass(frozen=True)
class Wanted:
    """What `fsqcodec decode` was asked for."""

    model: str
    picture_model: str
    kbps: float | None
    start: float
    duration: float | None
    keep_going: bool
    sample_format: str


def decode_file(
    task: Task, progress: Progress | None, wanted: Wanted, overwrite: bool, quiet: bool
) -> Outcome:
    """Decode one file."""
    from fsqcodec.bitstream.reader import Reader
    from fsqcodec.files import audio, truncate, video
    from fsqcodec.files.inputs import Recording
    from fsqcodec.files.span import Span
    from fsqcodec.visual.header import VisualHeader

    name = "standard input" if task.source == "-" else task.source
    suffix = "" if task.target == "-" else Path(task.target).suffix.lower()
    span, label = Span(wanted.start, wanted.duration), Path(task.source).name
    with ExitStack() as opened:
        target = opened.enter_context(open_target(task.target, overwrite))
        file = opened.enter_context(open_source(task.source))
        stages = None
        if wanted.kbps is not None:
            file = file if file.seekable() else io.BytesIO(file.read())
            stages = truncate.within(file, name, wanted.kbps, wanted.keep_going).stages
        source = Recording(file) if task.source == "-" else None
        reader = Reader(cast(IO[bytes], source or file), name, wanted.keep_going)
        if isinstance(reader.header, VisualHeader):
            # Sound is read as far as pictures have come, by a handle of its own.
            if source:
                copy = opened.enter_context(source.whole())
                reader, sound_source = Reader(copy, name, wanted.keep_going), copy.name
            else:
                sound_source = task.source
            sound_file = opened.enter_context(open_source(sound_source))
            return video.decode(
                load_visual(wanted.picture_model),
                reader,
                target,
                suffix,
                load_audio=lambda: load_audio(wanted.model),
                sound_file=sound_file,
                stages=stages,
                span=span,
                label=label,
                progress=progress,
                notify=say(quiet),
            )
        return audio.decode(
            load_audio(wanted.model),
            reader,
            target,
            suffix or ".wav",
            stages=stages,
            span=span,
            sample_format=wanted.sample_format,
            label=label,
            progress=progress,
            notify=say(quiet),
        )
