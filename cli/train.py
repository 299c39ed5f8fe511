"""`fsqcodec train`: train a model by a YAML configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import console


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

    accelerate launch --num_processes 2 -m fsqcodec.cli.main train my.yaml
    """
    from fsqcodec.train.config import load_config
    from fsqcodec.train.loop import Trainer

    shipped = Path(__file__).parent.parent / "train" / "configs" / f"{config}.yaml"
    trainer = Trainer(
        load_config(shipped if not config.exists() and shipped.exists() else config, settings), _say
    )
    if not trainer.main or not console.is_terminal:
        trainer.run()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("", total=trainer.config.optim.steps, completed=trainer.step)

        def show(step: int, _: int, values: dict[str, float]) -> None:
            bars.update(bar, completed=step, description=" ".join(f"{k} {v:.3f}" for k, v in values.items()))

        trainer.run(show)


def _say(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False)
