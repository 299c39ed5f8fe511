"""`fsqcodec models`: the models that are there."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table


def models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models or .safetensors files; all shipped ones when left out.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Configuration, provenance and scores as JSON.")
    ] = False,
) -> None:
    """List the shipped models, or show what made a model file."""
    from fsqcodec.checkpoints import find_model, read_metadata, shipped

    found = {str(name): read_metadata(find_model(name)) for name in (names or shipped())}
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = Table("model", "for", "stages", "trained")
    for name, metadata in found.items():
        train = metadata.get("train", {})
        steps, hours = 0, 0.0
        while train:  # this run, and those that it started from
            steps, hours = steps + train.get("steps", 0), hours + train.get("machine_hours", 0.0)
            train = train.get("before")
        table.add_row(
            name, _purpose(metadata), str(metadata["config"]["stages"]), f"{steps} steps, {hours:.1f} h"
        )
    Console(highlight=False).print(table)


def _purpose(metadata: dict[str, Any]) -> str:
    config = metadata["config"]
    if metadata.get("kind") == "visual":
        return f"pictures and video, {config['qualities']} qualities"
    frames = config["sample_rate"] / config["hop"] / config["stride"]
    rate = config["stages"] * math.log2(math.prod(config["levels"])) * frames / 1000
    saved = metadata.get("prior", {}).get("saved", {}).get("full", 0.0)
    return f"sound, {config['sample_rate']} Hz, up to {rate * (1 - saved):.1f} kbit/s on average"
