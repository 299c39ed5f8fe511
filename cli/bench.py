"""`fsqcodec bench`: the figures of the README, measured again on this machine."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
    import torch
    from fsqcodec.audio.chunked import StreamDecoder, StreamEncoder

    from .common import load_audio

    codec = load_audio(model)
    audio = _clip(clips, codec.sample_rate, seconds)
    encoder, decoder = StreamEncoder(codec.networks), StreamDecoder(codec.networks)

    def ours() -> tuple[float, float]:
        encoder.reset()
        decoder.reset()
        tokens = [encoder.push(audio), encoder.flush()]
        return _timed(lambda: (encoder.reset(), encoder.push(audio), encoder.flush())), _timed(
            lambda: (decoder.push(tokens[0]), decoder.push(tokens[1]), decoder.flush())
        )

    contestants: dict[str, Callable[[], tuple[float, float]]] = {codec.name: ours}
    try:
        from encodec import EncodecModel
    except ImportError:
        console.print("the encodec package is not installed: pip install 'fsqcodec\\[bench]'")
    else:
        peer = EncodecModel.encodec_model_24khz(pretrained=False).eval()
        peer.set_target_bandwidth(6.0)
        signal = torch.from_numpy(audio)[None, None]

        def theirs() -> tuple[float, float]:
            with torch.inference_mode():
                frames = peer.encode(signal)
                return _timed(lambda: peer.encode(signal)), _timed(lambda: peer.decode(frames))

        contestants["encodec 24 kHz"] = theirs
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(5):
        for name, contestant in contestants.items():
            runs[name].append(contestant())
    rows = [
        {
            "model": name,
            "encode_x_real_time": seconds / min(run[0] for run in times),
            "decode_x_real_time": seconds / min(run[1] for run in times),
        }
        for name, times in runs.items()
    ]
    if len(rows) == 2:
        keys = ("encode_x_real_time", "decode_x_real_time")
        rows.append({"model": "ratio", **{key: rows[0][key] / rows[1][key] for key in keys}})  # type: ignore[operator]
    _show("One thread", rows, as_json)


@app.command()
def memory(clips: Clips, model: Model = DEFAULT_MODEL, as_json: Json = False) -> None:
    """Peak memory of `encode` and `decode` for 1 and for 60 minutes of audio, in processes of their own."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (1, 60):
            wav, fsq, back = (str(Path(folder) / name) for name in ("in.wav", "x.fsq", "back.wav"))
            _repeat(clips, minutes * 60, wav)
            row: dict[str, Any] = {"minutes": minutes}
            for key, call in (("encode", ["encode", wav, fsq]), ("decode", ["decode", fsq, back])):
                started = time.monotonic()
                row[f"{key}_MB"] = _peak_memory([*call, "--model", model, "--overwrite", "--quiet"])
                row[f"{key}_x_real_time"] = minutes * 60 / (time.monotonic() - started)
            rows.append(row)
    growth = {f"{key}_MB": rows[1][f"{key}_MB"] / rows[0][f"{key}_MB"] for key in ("encode", "decode")}
    _show("Peak memory, and speed from file to file", [*rows, {"minutes": "ratio", **growth}], as_json)


@app.command()
def bits(clips: Clips, model: Model = DEFAULT_MODEL, kbps: float = 6.0, as_json: Json = False) -> None:
    """Bytes of header, packets and layers at a bitrate, and what the range coder loses against the ideal."""
    import io

    from fsqcodec.audio.rate_control import code_lengths
    from fsqcodec.bitstream.reader import Reader
    from fsqcodec.bitstream.stats import file_stats

    from .common import load_audio

    codec = load_audio(model)
    rows = []
    for file in _files(clips):
        data = codec.to_bytes(codec.limit(_encode(codec, file), kbps=kbps))
        found = file_stats(Reader(io.BytesIO(data), str(file)))
        packets = codec.from_bytes(data).split(codec.bitstream.packet_frames())
        ideal = sum(code_lengths(codec.coder, packet).sum() for packet in packets) / 8
        row = {"clip": file.name, "seconds": found.seconds, "bytes": found.total, "kbps": found.kbps(),
               "stages": found.header.stages, "overhead_%": 100 * found.overhead / found.total,
               "coder_loss_%": 100 * (sum(found.layers) / ideal - 1)}  # fmt: skip
        rows.append({**row, **{f"layer{i + 1}_kbps": found.kbps(n) for i, n in enumerate(found.layers)}})
    _show(f"Bits at {kbps} kbit/s", [*rows, _mean(rows, "clip")], as_json)


@app.command()
def prior(
    clips: Clips, model: Model = DEFAULT_MODEL, minutes: float = 60.0, as_json: Json = False
) -> None:  # fmt: skip
    """What the learned prior saves, by rate and by packet length, and how fast files decode with it.

    Speeds are of one thread, prior, range decoder and decoder network together, on the clips repeated to
    `--minutes`; the live row decodes packet after packet as they would arrive.
    """
    import torch
    from fsqcodec.train.evaluation.benchmarks.prior import by_packet, by_rate, decoding_speed

    from .common import load_audio

    torch.set_num_threads(1)
    codec = load_audio(model)
    if codec.prior is None:
        raise typer.BadParameter(f"{model} has no learned prior")
    encoded = [_encode(codec, file) for file in _files(clips)]
    size = sum(array.nbytes for array in codec.prior.tensors.values()) / 1e6
    _show(f"The learned prior ({size:.2f} MB), all clips", by_rate(codec, encoded), as_json)
    _show("Bits by packet length, all stages", by_packet(codec, encoded), as_json)
    _show("Decoding, one thread", decoding_speed(codec, encoded, minutes), as_json)


@app.command()
def stages(clips: Clips, model: Model = DEFAULT_MODEL, as_json: Json = False) -> None:
    """How each stage uses its codes: utilisation, perplexity, entropy in bits against log2 of the codes."""
    import torch

    from .common import load_audio

    codec = load_audio(model)
    tokens = [torch.from_numpy(_encode(codec, file).tokens[0].astype("int64")).T for file in _files(clips)]
    rows = [
        {"stage": i + 1, "codes": use.size, "utilisation": use.utilisation, "perplexity": use.perplexity,
         "entropy_bits": use.entropy, "fixed_bits": codec.model.quantizer.bits}
        for i, use in enumerate(codec.model.quantizer.statistics(torch.cat(tokens)))
    ]  # fmt: skip
    _show("Use of the codes", rows, as_json)


@app.command()
def loss(
    clips: Clips, model: Model = DEFAULT_MODEL, packet: Annotated[int, typer.Option(min=20, help="Milliseconds.")] = 40,
    answer: Annotated[
        int, typer.Option(min=0, help="Packets on the way until the sender hears that a key is needed; every packet is one when 0."),
    ] = 0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """PESQ-WB and ViSQOL of live packets at 1 to 20 % loss, single and in bursts of three: made up, as silence, and Opus'."""
    from fsqcodec.train.evaluation.packet_loss import measure

    from .common import load_audio

    codec = load_audio(model)
    frames = round(packet * codec.frame_rate / 1000)
    signals = [_clip(str(file), codec.sample_rate) for file in _files(clips)]
    rows = []
    for percent in (0, 1, 3, 5, 10, 20):
        for burst in (1, 3) if percent else (1,):
            each = [measure(codec, clip, frames, percent, burst, i, answer) for i, clip in enumerate(signals)]
            rows.append({"loss_%": percent, "burst": burst, **_mean(each)})
    _show(f"Packets of {packet} ms lost", rows, as_json)


@app.command()
def gaps(clips: Clips, model: Model = DEFAULT_MODEL, as_json: Json = False) -> None:
    """How far what is heard after gaps of 200 ms is off, in dB below the sound: the mean of all gaps, and the worst."""
    from fsqcodec.train.evaluation.packet_loss import recovery

    from .common import load_audio

    codec = load_audio(model)
    found = [row for file in _files(clips) for row in recovery(codec, _clip(str(file), codec.sample_rate))]
    if not found:
        raise FSQCodecError(f"{clips}: no gap fits; give sound of two seconds or more")
    worst = {key: min(row[key] for row in found) for key in found[0]}
    rows = [{"of": f"{len(found)} gaps", **_mean(found)}, {"of": "the worst", **worst}]
    _show("After gaps of 200 ms", rows, as_json)


@app.command()
def live(clips: Clips, model: Model = DEFAULT_MODEL, as_json: Json = False) -> None:
    """Time of live packets on one thread, by torch and by onnxruntime, one stream and each of a batch of 16."""
    from fsqcodec.train.evaluation.benchmarks.live import packet_times

    from .common import load_live

    rows = []
    for engine in ("torch", "onnx"):
        codec = load_live(model, engine)
        clip = _clip(clips, codec.sample_rate)
        for milliseconds in (20, 40, 100):
            rows += packet_times(codec, engine, clip, milliseconds)
    _show("Live packets", rows, as_json)


@app.command()
def keys(clips: Clips, model: Model = DEFAULT_MODEL, as_json: Json = False) -> None:
    """Kilobits a second of live packets, heads included, by how many of them are keys, which decode by themselves.

    Of each clip by itself, and then, with a bitrate asked for, of all of them one after the other.
    """
    import numpy as np
    from fsqcodec.train.evaluation.benchmarks.live import key_bitrates, paced_bitrates

    from .common import load_audio

    codec = load_audio(model)
    signals = [_clip(str(file), codec.sample_rate) for file in _files(clips)]
    lengths = (20, 40, 100)
    _show("Live packets, kbit/s", [key_bitrates(codec, signals, ms) for ms in lengths], as_json)
    joined = np.concatenate(signals)
    paced = [paced_bitrates(codec, joined, ms) for ms in lengths]
    _show(f"kbit/s asked for and taken, {len(joined) / codec.sample_rate:.0f} s", paced, as_json)


@app.command()
def pictures(
    clips: Clips, model: Model = DEFAULT_PICTURE_MODEL, quality: int = 5, as_json: Json = False
) -> None:
    """Frames a second of the picture model on both cores, tokens and coder included, and the process's peak memory so far.

    On the first 32 frames of each clip.
    """
    import resource

    from fsqcodec.media.video_reader import FrameReader

    from .common import load_visual

    codec, rows = load_visual(model), []
    for file in _files(clips):
        with FrameReader(file) as reader:
            frames = [frame for frame, _ in zip(reader, range(32), strict=False)]
        packet = codec.encode_group(frames[:1], 0, quality)  # the loops are compiled
        height, width = frames[0].picture.shape[:2]
        header = codec.header(height, width, frames=len(frames))
        begin = time.perf_counter()
        packet = codec.encode_group(frames, 0, quality)
        middle = time.perf_counter()
        for _ in codec.decode_group(packet, header):
            pass
        end = time.perf_counter()
        rows.append({"clip": file.name, "width": width, "height": height, "frames": len(frames),
                     "bpp": sum(map(len, packet.layers)) * 8 / width / height / len(frames),
                     "encode_fps": len(frames) / (middle - begin), "decode_fps": len(frames) / (end - middle),
                     "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6})  # fmt: skip
    _show("Pictures and video", rows, as_json)


def _files(clips: str) -> list[Path]:
    from fsqcodec.train.data.manifest import list_media

    return list_media(clips)


def _rate(file: Path) -> int:
    from fsqcodec.media.audio import AudioReader

    with AudioReader(file) as reader:
        return reader.facts.sample_rate


def _original(file: Path) -> Any:
    from fsqcodec.media.audio import AudioReader

    with AudioReader(file) as reader:
        return reader.read()[0]


def _encode(codec: Any, file: Path) -> Any:
    return codec.encode(_original(file), _rate(file))


def _clip(clips: str, sample_rate: int, seconds: float | None = None) -> Any:
    import numpy as np
    from fsqcodec.media.audio import AudioReader

    parts = []
    for file in _files(clips):
        with AudioReader(file, sample_rate) as reader:
            parts.append(reader.read()[0])
    joined = np.concatenate(parts)
    return joined if seconds is None else np.resize(joined, int(seconds * sample_rate))


def _repeat(clips: str, seconds: int, target: str) -> None:
    """A wav file of any length, written block by block."""
    from fsqcodec.media.audio import AudioFacts, AudioWriter

    minute = _clip(clips, 24000, 60)
    with open(target, "wb") as out:
        writer = AudioWriter(out, ".wav", AudioFacts(24000, 1))
        for _ in range(seconds // 60):
            writer.write(minute[None])
        writer.close()


def _peak_memory(arguments: list[str]) -> float:
    """Peak resident MB of a command of ours, as the system counts it for a child process."""
    code = (
        "import resource, subprocess, sys;"
        "done = subprocess.run([sys.executable, '-m', 'fsqcodec.cli.main', *sys.argv[1:]]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss);"
        "sys.exit(done.returncode)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise typer.Exit(1)
    return int(done.stdout) / (1024 if sys.platform != "darwin" else 1024**2)


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _mean(rows: list[dict[str, Any]], name: str | None = None) -> dict[str, Any]:
    numbers = [key for key, value in rows[0].items() if isinstance(value, int | float)]
    means: dict[str, Any] = {name: "mean"} if name else {}
    return means | {key: sum(row.get(key, 0.0) for row in rows) / len(rows) for key in numbers}


def _show(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    machine = f"{platform.machine()}, Python {platform.python_version()}, {date.today()}"
    if as_json:
        print(json.dumps({"title": title, "machine": machine, "rows": rows}, indent=2))
        return
    keys = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*keys, title=f"{title} ({machine})")
    for row in rows:
        cells = [row.get(key, "") for key in keys]
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) and cell < 100 else f"{cell:.0f}" if isinstance(cell, float) else str(cell) for cell in cells))  # fmt: skip
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
