"""`fsqcodec finetune`: make a model fit one's own media."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .train import leave, say, show_progress


def finetune(
    model: Annotated[str, typer.Argument(help="Model to start from: a name, or a .safetensors file.")],
    media: Annotated[list[str], typer.Argument(help="Files, folders or globs of your own media.")],
    out: Annotated[Path, typer.Option(help="The model to write, a .safetensors file.")],
    full: Annotated[
        bool,
        typer.Option(
            "--full/--decoder",
            help="--decoder: tokens and existing files stay valid, they sound more like your media. "
            "--full: the encoder too, and a new prior; older files need the older model.",
        ),
    ] = False,
    steps: Annotated[int, typer.Option(min=1, help="Steps of 8 crops of a second.")] = 1500,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 3e-4,
    held_out: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the files that is kept to validate with.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; torch's choice when 0.")] = 0,
    keep_worse: Annotated[
        bool, typer.Option("--keep-worse", help="Write the model even if the held-out files got worse.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace a model that exists.")
    ] = False,
) -> None:
    """Fine-tune a model on your own media; the same command resumes where it stopped.

    A part of the files is held out; scores on it are shown before and after, and a model that got worse
    is not written. The run (checkpoints, logs) lies in a folder beside the result.

    [bold]Examples[/bold]

    fsqcodec finetune speech-24k recordings/ --out my-voice.safetensors

    fsqcodec encode talk.wav talk.fsq --model my-voice.safetensors

    accelerate launch -m fsqcodec.cli.main finetune speech-24k corpus/ --full --out corpus.safetensors
    """
    from fsqcodec.errors import ModelError
    from fsqcodec.train.finetune import Finetune, Settings

    if out.suffix != ".safetensors":
        raise typer.BadParameter(f"{out} must end in .safetensors", param_hint="--out")
    if out.exists() and not overwrite:
        raise ModelError(f"{out}: exists; --overwrite replaces it")
    settings = Settings(
        model=model,
        media=media,
        out=out,
        full=full,
        steps=steps,
        lr=rate,
        share=held_out,
        seed=seed,
        threads=threads,
        keep_worse=keep_worse,
    )
    job = Finetune(settings, say)
    with show_progress(job.trainer.main) as show:
        job.run(show)
    job.notify(f"wrote {out}")
    leave(job.trainer.accelerator)
