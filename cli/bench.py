"""`fsqcodec bench`: the figures of the README, measured again on this machine."""

from __future__ import annotations

import json
import platform
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from fsqcodec.errors import FSQCodecError
from rich.console import Console
from rich.table import Table

from .common import DEFAULT_MODEL, DEFAULT_PICTURE_MODEL, Model, console

app = typer.Typer(help="Measure speed, memory, bits and quality on this machine.", no_args_is_help=True)
Clips = Annotated[str, typer.Argument(help="A media file, a folder or a glob.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def speed(clips: Clips, model: Model = DEFAULT_MODEL, seconds: float = 30.0, as_json: Json = False) -> None:
    """Encoder and decoder on one thread, beside the encodec package's 24 kHz model (random weights).

    Both run on the same audio in turns, five times each; the best time of each counts. Bitstreams are left
    out on both sides.
    """
    from fsqcodec.train.evaluation.benchmarks.networks import has_encodec, speed
    from fsqcodec.train.evaluation.benchmarks.rows import joined

    from .common import load_audio

    codec = load_audio(model)
    if not has_encodec():
        console.print("the encodec package is not installed: pip install 'fsqcodec\\[bench]'")
    _show("One thread", speed(codec, joined(_files(clips), codec.sample_rate, seconds)), as_json)


@app.command()
def memory(clips: Clips, model: Model = DEFAULT_MODEL, as_json: Json = False) -> None:
    """Peak memory of `encode` and `decode` for 1 and for 60 minutes of audio, in processes of their own."""
    from fsqcodec.train.evaluation.benchmarks.memory import file_to_file
    from fsqcodec.train.evaluation.benchmarks.rows import joined

    minute = joined(_files(clips), 24000, 60)
    rows = file_to_file([sys.executable, "-m", "fsqcodec.cli.main"], model, minute, 24000)
    _show("Peak memory, and speed from file to file", rows, as_json)


@app.command()
def bits(clips: Clips, model: Model = DEFAULT_MODEL, kbps: float = 6.0, as_json: Json = False) -> None:
    """Bytes of header, packets and layers at a bitrate, and what the range coder loses against the ideal."""
    from fsqcodec.train.evaluation.benchmarks.bits import by_layer
    from fsqcodec.train.evaluation.benchmarks.rows import mean

    from .common import load_audio

    codec = load_audio(model)
    rows = [by_layer(codec, file, kbps) for file in _files(clips)]
    _show(f"Bits at {kbps} kbit/s", [*rows, {"clip": "mean", **mean(rows)}], as_json)


@app.command()
def prior(clips: Clips, model: Model = DEFAULT_MODEL, minutes: float = 60.0, as_json: Json = False) -> None:
    """What the learned prior saves, by rate and by packet length, and how fast files decode with it.

    Speeds are of one thread, prior, range decoder and decoder network together, on the clips repeated to
    `--minutes`; the live row decodes packet after packet as they would arrive.
    """
    import torch
    from fsqcodec.train.evaluation.benchmarks.prior import by_packet, by_rate, decoding_speed
    from fsqcodec.train.evaluation.benchmarks.rows import encoded

    from .common import load_audio

    torch.set_num_threads(1)
    codec = load_audio(model)
    if codec.prior is None:
        raise typer.BadParameter(f"{model} has no learned prior")
    tokens = [encoded(codec, file) for file in _files(clips)]
    size = sum(array.nbytes for array in codec.prior.tensors.values()) / 1e6
    _show(f"The learned prior ({size:.2f} MB), all clips", by_rate(codec, tokens), as_json)
    _show("Bits by packet length, all stages", by_packet(codec, tokens), as_json)
    _show("Decoding, one thread", decoding_speed(codec, tokens, minutes), as_json)


@app.command()
def stages(clips: Clips, model: Model = DEFAULT_MODEL, as_json: Json = False) -> None:
    """How each stage uses its codes: utilisation, perplexity, entropy in bits against log2 of the codes."""
    from fsqcodec.train.evaluation.benchmarks.bits import use_of_codes

    from .common import load_audio

    _show("Use of the codes", use_of_codes(load_audio(model), _files(clips)), as_json)


@app.command()
def loss(
    clips: Clips,
    model: Model = DEFAULT_MODEL,
    packet: Annotated[int, typer.Option(min=20, help="Milliseconds.")] = 40,
    answer: Annotated[
        int,
        typer.Option(
            min=0,
            help="Packets on the way until the sender hears that an independent one is needed; "
            "every packet is one when 0.",
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """PESQ-WB and ViSQOL of live packets at 1 to 20 % loss: concealed, silent in the gaps, and by Opus."""
    from fsqcodec.train.evaluation.packet_loss import by_loss

    from .common import load_audio

    codec = load_audio(model)
    frames = round(packet * codec.frame_rate / 1000)
    rows = by_loss(codec, _signals(clips, codec.sample_rate), frames, answer)
    _show(f"Packets of {packet} ms lost", rows, as_json)


@app.command()
def gaps(clips: Clips, model: Model = DEFAULT_MODEL, as_json: Json = False) -> None:
    """How far sound after gaps of 200 ms is off, in dB below it: the mean of all gaps, and the worst."""
    from fsqcodec.train.evaluation.packet_loss import mean_and_worst, recovery

    from .common import load_audio

    codec = load_audio(model)
    rows = [row for signal in _signals(clips, codec.sample_rate) for row in recovery(codec, signal)]
    if not rows:
        raise FSQCodecError(f"{clips}: no gap fits; give sound of two seconds or more")
    _show("After gaps of 200 ms", mean_and_worst(rows), as_json)


@app.command()
def live(clips: Clips, model: Model = DEFAULT_MODEL, as_json: Json = False) -> None:
    """Time of live packets on one thread, by torch and onnxruntime, of one stream and of each of 16."""
    from fsqcodec.train.evaluation.benchmarks.live import packet_times
    from fsqcodec.train.evaluation.benchmarks.rows import joined

    from .common import load_live

    rows = []
    for engine in ("torch", "onnx"):
        codec = load_live(model, engine)
        signal = joined(_files(clips), codec.sample_rate)
        for milliseconds in _LENGTHS:
            rows += packet_times(codec, engine, signal, milliseconds)
    _show("Live packets", rows, as_json)


@app.command()
def keys(clips: Clips, model: Model = DEFAULT_MODEL, as_json: Json = False) -> None:
    """Kilobits a second of live packets, headers included, by how many of them are independent.

    Of each clip by itself, and then, with a bitrate asked for, of all of them one after the other.
    """
    import numpy as np
    from fsqcodec.train.evaluation.benchmarks.live import asked_and_taken, by_independent

    from .common import load_audio

    codec = load_audio(model)
    signals = _signals(clips, codec.sample_rate)
    rates = [by_independent(codec, signals, milliseconds) for milliseconds in _LENGTHS]
    _show("Live packets, kbit/s, by which are independent", rates, as_json)
    whole = np.concatenate(signals)
    taken = [asked_and_taken(codec, whole, milliseconds) for milliseconds in _LENGTHS]
    _show(f"kbit/s asked for and taken, {len(whole) / codec.sample_rate:.0f} s", taken, as_json)


@app.command()
def pictures(
    clips: Clips, model: Model = DEFAULT_PICTURE_MODEL, quality: int = 5, as_json: Json = False
) -> None:
    """Frames a second of the picture model, tokens and coder included, and the process's peak memory so far.

    On the first 32 frames of each clip.
    """
    from fsqcodec.train.evaluation.benchmarks.pictures import frames_a_second

    from .common import load_visual

    codec = load_visual(model)
    _show("Pictures and video", [frames_a_second(codec, file, quality) for file in _files(clips)], as_json)


_LENGTHS = (20, 40, 100)
"""Milliseconds of live packets."""


def _files(clips: str) -> list[Path]:
    from fsqcodec.train.data.manifest import list_media

    return list_media(clips)


def _signals(clips: str, sample_rate: int) -> list[Any]:
    from fsqcodec.train.evaluation.benchmarks.rows import first_channel

    return [first_channel(file, sample_rate)[0] for file in _files(clips)]


def _show(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    machine = f"{platform.machine()}, Python {platform.python_version()}, {date.today()}"
    if as_json:
        print(json.dumps({"title": title, "machine": machine, "rows": rows}, indent=2))
        return
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = Table(*columns, title=f"{title} ({machine})")
    for row in rows:
        table.add_row(*(_cell(row.get(column, "")) for column in columns))
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
