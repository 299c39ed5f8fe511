"""`fsqcodec encode`: media files to `.fsq`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import (
    DEFAULT_MODEL,
    Inputs,
    Jobs,
    Model,
    OutDir,
    Overwrite,
    Quiet,
    Task,
    Verbose,
    load_codec,
    open_source,
    open_target,
    plan,
    run,
)  # fmt: skip

MEDIA = {
    ".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".wma", ".aif", ".aiff", ".caf", ".w64", ".au",
    ".mp4", ".mkv", ".mka", ".mov", ".webm", ".avi", ".amr", ".wv", ".ape",
}  # fmt: skip
"""Extensions that are taken from folders; files that are named are always tried."""


def encode(
    inputs: Inputs,
    kbps: Annotated[
        float | None,
        typer.Option(min=0.1, help="Average bitrate of the file, at most. All stages when left out."),
    ] = None,
    packet: Annotated[
        float, typer.Option(min=0.02, max=20, help="Seconds in a packet, which decodes by itself.")
    ] = 2.5,
    prior: Annotated[
        str,
        typer.Option(help="learned, or none: larger files, by static tables, quicker to decode."),
    ] = "learned",
    model: Model = DEFAULT_MODEL,
    out_dir: OutDir = None,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Encode audio: any file that FFmpeg reads becomes a small .fsq file.

    [bold]Examples[/bold]

    fsqcodec encode talk.mp3 talk.fsq --kbps 6

    fsqcodec encode recordings/ --out-dir small/ --jobs 2

    cat talk.wav | fsqcodec encode - - > talk.fsq
    """
    if prior not in ("learned", "none"):
        raise typer.BadParameter(f"{prior!r} is not learned or none", param_hint="--prior")
    tasks = plan(inputs, out_dir, ".fsq", lambda file: file.suffix.lower() in MEDIA)
    options = {"model": model, "kbps": kbps, "packet": packet, "prior": prior, "overwrite": overwrite}
    run(tasks, encode_file, options, jobs, quiet, verbose)


def encode_file(
    task: Task, progress: Any, model: str, kbps: float | None, packet: float, prior: str, overwrite: bool
) -> str:
    """Encode one file; returns a line that says what came of it."""
    from fsqcodec.media import AudioReader

    with open_target(task.target, overwrite) as target:
        codec = load_codec(model)
        codec = codec.without_prior() if prior == "none" else codec
        with open_source(task.source) as file, AudioReader(file, codec.sample_rate, task.source) as reader:
            facts = reader.facts
            if progress:
                progress.start(Path(task.source).name, reader.duration)
            blocks = _watched(reader, progress.advance, codec.sample_rate) if progress else iter(reader)
            encoded = codec.encode_blocks(
                blocks, facts.channels, facts.sample_rate, lambda: reader.samples_in, facts.tags
            )
        encoded = codec.limit(encoded, kbps=kbps, packet_seconds=packet)
        size = codec.write(encoded, target, packet)
    rate = f", {size * 8 / 1000 / encoded.seconds:.2f} kbit/s" if encoded.seconds else ""
    return f"{task.source} → {task.target}: {encoded.seconds:.1f} s, {encoded.tokens.shape[1]} stages{rate}"


def _watched(reader: Any, advance: Any, sample_rate: int) -> Any:
    for block in reader:
        yield block
        advance(block.shape[1] / sample_rate)
