"""`fsqcodec corpus`: thousands of hours to shards of tokens, and back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .common import DEFAULT_MODEL, Model, Quiet, console, load_audio

app = typer.Typer(
    help="Turn whole corpora into WebDataset shards of tokens, and back. Under `torchrun` or `accelerate launch` the processes share the work.",
    no_args_is_help=True,
)
Shards = Annotated[str, typer.Argument(help="Folder of token shards, or one shard.")]


@app.command("tokenize")
def tokenize(
    sources: Annotated[
        list[str],
        typer.Argument(help="Folders, globs, files, lists of files (.txt), shards of media (.tar)."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    per_shard: Annotated[int, typer.Option(min=1, help="Items in a shard.")] = 256,
    stages: Annotated[int | None, typer.Option(min=1, help="Keep this many stages.")] = None,
    model: Model = DEFAULT_MODEL,
    quiet: Quiet = False,
) -> None:
    """Tokenize everything; the same command goes on after it was stopped or killed, with nothing twice and nothing missing.

    Files that cannot be read are listed in the .json beside their shard and skipped.

    [bold]Examples[/bold]

    fsqcodec corpus tokenize recordings/ --out shards/

    torchrun --nproc_per_node 2 -m fsqcodec.cli.main corpus tokenize 'raw/*.tar' --out shards/
    """
    from fsqcodec.train.data import token_shards as corpus

    codec = load_audio(model)
    units = corpus.plan(sources, per_shard)
    count = sum(map(len, units))
    unreadable, written = [], 0
    with _progress(count, quiet) as step:
        for shard in corpus.tokenize(codec, units, out, stages, step):
            unreadable += json.loads(shard.with_suffix(".json").read_text())["unreadable"]
            written += 1
    for failure in unreadable:
        console.print(f"skipped: {failure['error']}", markup=False, soft_wrap=True)
    if not quiet:
        console.print(
            f"{out}: {count} items in {len(units)} shards; {written} shards now, by this process, "
            f"{len(unreadable)} of their items not readable",
            markup=False,
            soft_wrap=True,
        )


@app.command("decode")
def decode(
    shards: Shards,
    out: Annotated[Path, typer.Option(help="Folder for the media files, which keep their keys' tree.")],
    suffix: Annotated[str, typer.Option(help="Ending, and so format, of the files.")] = ".wav",
    model: Model = DEFAULT_MODEL,
    quiet: Quiet = False,
) -> None:
    """Decode token shards to media files; files that exist stay as they are.

    [bold]Example[/bold]

    fsqcodec corpus decode shards/ --out back/ --suffix .flac
    """
    from fsqcodec.train.data import token_shards as corpus

    with _progress(None, quiet) as step:
        written = corpus.decode(load_audio(model), shards, out, suffix, step)
    if not quiet:
        console.print(f"{out}: {written} files written", markup=False)


@app.command("stats")
def stats(
    shards: Shards,
    model: Model = DEFAULT_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Hours, bitrates, and how much of its codes every stage uses.

    [bold]Example[/bold]

    fsqcodec corpus stats shards/
    """
    from fsqcodec.train.data import token_shards as corpus

    found = corpus.statistics(load_audio(model), shards)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    table = Table(
        title=f"{found['items']} items, {found['hours']:.2f} h, {found['bytes_an_hour'] / 1e6:.2f} MB an hour"
    )
    for column in ("stage", "codes used", "perplexity", "entropy, bits"):
        table.add_column(column, justify="right")
    for row in found["stages"]:
        table.add_row(
            str(row["stage"]),
            f"{row['utilisation']:.1%}",
            f"{row['perplexity']:.1f}",
            f"{row['entropy']:.3f}",
        )
    show = Console(highlight=False)
    show.print(table)
    show.print(
        f"{found['kbps_fixed']:.2f} kbit/s in fixed-length codes, {found['kbps_entropy']:.2f} by the stages' entropies; "
        f"{len(found['unreadable'])} items were not readable"
    )


@contextmanager
def _progress(count: int | None, quiet: bool) -> Iterator[Callable[[float], None] | None]:
    """A bar of items with the speed in seconds of sound; on terminals only."""
    if quiet or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("items"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        bar, done = bars.add_task("", total=count), [0.0]

        def step(seconds: float) -> None:
            done[0] += seconds
            elapsed = bars.tasks[0].elapsed or 1e-9
            bars.update(
                bar, advance=1, description=f"{done[0] / 3600:.2f} h, {done[0] / elapsed:.0f}× real time"
            )

        yield step
