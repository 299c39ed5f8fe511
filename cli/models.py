"""`fsqcodec models`: the models that are there."""

from __future__ import annotations

import json
from typing import Annotated

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
    table = Table("model", "sample rate", "stages", "full rate", "trained")
    for name, metadata in found.items():
        import math

        config, train = metadata["config"], metadata.get("train", {})
        stages = config["stages"]
        frames = config["sample_rate"] / config["hop"] / config["stride"]
        rate = stages * math.log2(math.prod(config["levels"])) * frames / 1000
        steps, hours = 0, 0.0
        while train:  # this run, and those that it started from
            steps, hours = steps + train.get("steps", 0), hours + train.get("machine_hours", 0.0)
            train = train.get("before")
        saved = metadata.get("prior", {}).get("saved", {}).get("full", 0.0)
        table.add_row(
            name, f"{config['sample_rate']} Hz", str(stages), f"{rate * (1 - saved):.1f} kbit/s on average",
            f"{steps} steps, {hours:.1f} h",
        )  # fmt: skip
    Console(highlight=False).print(table)
