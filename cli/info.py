"""`fsqcodec info`: what a `.fsq` file holds and where its bits go."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .common import DEFAULT_PICTURE_MODEL, PictureModel, load_visual, open_source


def info(
    files: Annotated[list[str], typer.Argument(help=".fsq files; - is a pipe.")],
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects, one a file.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Count what is intact of a damaged file.")
    ] = False,
    frames: Annotated[
        bool, typer.Option("--frames", help="Bits of every frame of a video too; the prior runs for that.")
    ] = False,
    picture_model: PictureModel = DEFAULT_PICTURE_MODEL,
) -> None:
    """Show model, streams, duration, bits of each layer and hashes of .fsq files. No network runs."""
    facts = [describe(name, keep_going) for name in files]
    if frames:
        facts = [
            fact | {"frame_bits": frame_bits(fact["file"], picture_model)}
            if fact["kind"] == "video"
            else fact
            for fact in facts
        ]
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for fact in facts:
        table = Table(title=fact["file"], show_header=False, title_justify="left")
        for key, value in fact.items():
            if key == "layers":
                for layer in value:
                    stages = f"stages {layer['stages'][0]}–{layer['stages'][1]}"
                    table.add_row(
                        stages if layer["stages"][1] else "side information",
                        f"{layer['bytes']} bytes, {layer['kbps']:.3f} kbit/s, sum {layer['kbps_so_far']:.3f}",
                    )
            elif key == "frame_bits":
                for start in range(0, len(value), 8):
                    row = "  ".join(f"{bits:8.0f}" for bits in value[start : start + 8])
                    table.add_row(f"bits of frames {start}–{min(len(value), start + 8) - 1}", row)
            elif key != "file":
                table.add_row(
                    key.replace("_", " "), f"{value:.3f}" if isinstance(value, float) else str(value)
                )
        Console(highlight=False).print(table)


def describe(name: str, keep_going: bool = False) -> dict[str, Any]:
    """Facts of one file, ready for JSON."""
    from fsqcodec.bitstream.reader import Reader
    from fsqcodec.bitstream.stats import file_stats

    with open_source(name) as file:
        reader = Reader(file, "standard input" if name == "-" else name, keep_going)
        stats = file_stats(reader)
    header = stats.header
    layers, so_far = [], stats.overhead + stats.sound
    for number, size in enumerate(stats.layers):
        so_far += size
        layer = {
            "stages": list(header.stage_range(number)),
            "bytes": size,
            "kbps": round(stats.kbps(size), 4),
            "kbps_so_far": round(stats.kbps(so_far), 4),
        }
        layers.append(layer)
    facts = {
        "file": name,
        "model": header.model,
        "model_hash": header.model_hash.hex(),
        "table_hash": header.table_hash.hex(),
        "seconds": stats.seconds,
        "stages": header.stages,
        "packets": stats.packets,
        "bytes": stats.total,
        "overhead_bytes": stats.overhead,
        "kbps": stats.kbps(),
        "complete": stats.complete,
        "damaged_bytes": reader.lost,
        "tags": header.tags,
    }
    return facts | header.facts(stats) | {"layers": layers}


def frame_bits(name: str, picture_model: str) -> list[int]:
    """Bits of every frame of a video, by the prior.

    Raises:
        BitstreamError: it is damaged.
        ModelError: it was made with another model.
    """
    from fsqcodec.bitstream.reader import Reader
    from fsqcodec.errors import MediaError

    if name == "-":
        raise MediaError("standard input: --frames reads a file twice; name one")
    codec = load_visual(picture_model)
    with open_source(name) as file:
        reader = Reader(file, name)
        header = codec.check(reader)
        groups = (packet for packet in reader if packet.stream == 0)
        return [round(bits) for packet in groups for bits in codec.frame_bits(packet, header)]
