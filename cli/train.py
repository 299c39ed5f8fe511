"""`fsqcodec train`: train a model by a YAML configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import console

if TYPE_CHECKING:
    from accelerate import Accelerator


def train(
    config: Annotated[
        Path, typer.Argument(help="A YAML file, or the name of a shipped one such as speech-24k.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings that win, such as optim.steps=2000.")
    ] = None,
) -> None:
    """Train a model; the same command resumes a run that was stopped.

    [bold]Examples[/bold]

    fsqcodec train my.yaml

    fsqcodec train speech-24k out=runs/mine optim.steps=2000

    fsqcodec train speech-24k-prior out=runs/prior prior_of=runs/mine/model.safetensors

    fsqcodec train speech-24k-decoder out=runs/final init=runs/prior/model.safetensors

    accelerate launch -m fsqcodec.cli.main train my.yaml [dim](every GPU)[/dim]

    torchrun --nproc_per_node 2 -m fsqcodec.cli.main train my.yaml [dim](without a GPU)[/dim]
    """
    from fsqcodec.errors import ConfigError
    from fsqcodec.train.build import build_trainer, load_config
    from fsqcodec.train.configs import shipped

    if not config.exists():
        recipes = shipped()
        if str(config) not in recipes:
            names = ", ".join(recipes)
            raise ConfigError(f"{config}: no such file; shipped recipes are {names}, or give a .yaml file")
        config = recipes[str(config)]
    trainer = build_trainer(load_config(config, settings or []), say)
    with show_progress(trainer.main) as show:
        trainer.run(show)
    leave(trainer.accelerator)


def leave(accelerator: Accelerator) -> None:
    """End a run together: a process that leaves early breaks the connections of those that still write."""
    accelerator.wait_for_everyone()
    accelerator.end_training()


@contextmanager
def show_progress(wanted: bool) -> Iterator[Callable[[int, int, dict[str, float]], None] | None]:
    """A bar that a trainer's `run` moves; None where nobody watches."""
    if not wanted or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("", total=None)

        def show(step: int, steps: int, values: dict[str, float]) -> None:
            text = " ".join(f"{k} {v:.3f}" for k, v in values.items())
            bars.update(bar, total=steps, completed=step, description=text)

        yield show


def say(line: str) -> None:
    """Show a trainer's line."""
    console.print(line, soft_wrap=True, markup=False)
