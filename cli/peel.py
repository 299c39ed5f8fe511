"""`fsqcodec peel`: a lower bitrate without running a network."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import Inputs, Overwrite, console, open_target, plan, read_whole


def peel(
    inputs: Inputs,
    kbps: Annotated[
        float,
        typer.Option(min=0.1, help="Average bitrate of the output, at most (at least one layer stays)."),
    ],
    overwrite: Overwrite = False,
) -> None:
    """Drop trailing layers of a .fsq file: smaller at once, no network runs.

    [bold]Example[/bold]

    fsqcodec peel talk.fsq small.fsq --kbps 3
    """
    from dataclasses import replace

    from fsqcodec.bitstream.container import Writer
    from fsqcodec.bitstream.reader import Reader, survey
    from fsqcodec.visual.header import VisualHeader

    (task,) = plan(inputs, None, ".peeled.fsq", lambda _: True)
    data = read_whole(task.source)
    found = survey(Reader(data, task.source))
    layers = found.layers_within(kbps)
    data.seek(0)
    reader = Reader(data, task.source)
    first = isinstance(found.header, VisualHeader)  # side information is a layer of no stages, and stays
    layers = max(layers, 1 + first)
    stages = min(found.header.stages, (layers - first) * found.header.stages_per_layer)
    with open_target(task.target, overwrite) as target:
        writer = Writer(target, replace(found.header, stages=stages))
        for packet in reader:
            writer.write(packet if first and packet.stream else packet.peel(layers))
        if reader.complete:
            writer.finish()
    if found.kbps(found.size(layers)) > kbps:
        console.print(f"one layer alone takes {found.kbps(found.size(1 + first)):.2f} kbit/s")
