"""`fsqcodec peel`: a lower bitrate without running a network."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import Inputs, Overwrite, console, fail, open_target, plan, read_whole


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
    from fsqcodec.files import truncate

    (task,) = plan(inputs, None, ".peeled.fsq", lambda _: True)
    source = read_whole(task.source)
    with open_target(task.target, overwrite) as target:
        kept = truncate.peel(source, task.source, target, kbps)
    if kept.kbps > kbps:
        console.print(f"one layer alone takes {kept.kbps:.2f} kbit/s")
    if kept.missing:
        raise typer.Exit(fail(kept.missing))
