"""`fsqcodec decode`: `.fsq` files to audio files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    console,
    load_codec,
    open_source,
    open_target,
    plan,
    read_whole,
    run,
)
from .pictures import decode_pictures


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
    options = {"model": model, "picture_model": picture_model, "kbps": kbps, "start": start, "duration": duration, "keep_going": keep_going, "sample_format": sample_format,
               "overwrite": overwrite, "quiet": quiet}  # fmt: skip
    run(tasks, decode_file, options, jobs, quiet, verbose)


def decode_file(
    task: Task, progress: Any, model: str, picture_model: str, kbps: float | None, start: float, duration: float | None,
    keep_going: bool, sample_format: str, overwrite: bool, quiet: bool,
) -> str:  # fmt: skip
    """Decode one file; returns a line that says what came of it."""
    from fsqcodec.bitstream.reader import Reader, survey
    from fsqcodec.media.audio import AudioFacts, AudioWriter
    from fsqcodec.visual.header import VisualHeader

    name = "standard input" if task.source == "-" else task.source
    stages = None
    with open_target(task.target, overwrite) as target, open_source(task.source) as file:
        if kbps is not None:
            file = read_whole(task.source) if task.source == "-" else file
            found = survey(Reader(file, name, keep_going))
            layers = found.layers_within(kbps) - isinstance(found.header, VisualHeader)
            stages = max(1, layers) * found.header.stages_per_layer
            file.seek(0)
        reader = Reader(file, name, keep_going)
        if isinstance(reader.header, VisualHeader):
            return decode_pictures(
                task, progress, reader, target, picture_model, model, stages, start, duration, quiet
            )
        codec = load_codec(model)
        header = codec.check(reader)
        suffix = ".wav" if task.target == "-" else Path(task.target).suffix.lower()
        facts = AudioFacts(header.sample_rate, header.channels, header.tags)
        writer = AudioWriter(target, suffix, facts, sample_format)
        rate = header.sample_rate
        begin = round(start * rate)
        known = header.samples is not None
        end = min(header.samples if header.samples is not None else 1 << 62,
                  1 << 62 if duration is None else begin + round(duration * rate))  # fmt: skip
        if known and begin >= end and (start or duration is not None):
            raise reader.error(
                0,
                f"nothing between {start:g} s and the end",
                f"it lasts {(header.samples or 0) / rate:.2f} s",
            )
        if progress:
            progress.start(Path(task.source).name, (end - begin) / rate if known else duration)
        first = reader.seek(int(start * codec.frame_rate)) if begin else 0
        at = codec.sample_of(first, rate)
        for block in codec.decode_blocks(
            codec.read_packets(reader, stages, keep_going), header, stages, first
        ):
            part = block[:, max(0, begin - at) : max(0, end - at)]
            at += block.shape[1]
            writer.write(part)
            if progress:
                progress.advance(part.shape[1] / rate)
            if at >= end:
                break
        if known and at < end:
            missing = f"{(end - at) / rate:.2f} s"
            if not keep_going:
                raise reader.error(
                    reader.position, f"the file ends {missing} early", "--keep-going decodes what is there"
                )
            if not quiet:
                console.print(f"{name}: {missing} at the end are lost", markup=False)
        writer.close()
    if reader.lost and not quiet:
        console.print(f"{name}: {reader.lost} damaged bytes were skipped", markup=False)
    return f"{task.source} → {task.target}: {(min(at, end) - begin) / rate:.1f} s"
