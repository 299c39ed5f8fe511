"""The `fsqcodec` command. Heavy imports wait inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from . import (
    bench,
    corpus,
    decode,
    encode,
    evaluate,
    export,
    finetune,
    info,
    models,
    peel,
    serve,
    stream,
    tokens,
    train,
)
from .common import fail, trouble

app = typer.Typer(
    name="fsqcodec",
    help="A neural codec: sound, pictures and video to small .fsq files and back.\n\n"
    "fsqcodec encode speech.wav speech.fsq --kbps 6\n\nfsqcodec decode speech.fsq back.wav",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("encode")(encode.encode)
app.command("decode")(decode.decode)
app.command("peel")(peel.peel)
app.command("info")(info.info)
app.command("models")(models.models)
app.command("tokens")(tokens.tokens)
app.command("stream")(stream.stream)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("train")(train.train)
app.command("finetune")(finetune.finetune)
app.add_typer(corpus.app, name="corpus")
app.add_typer(bench.app, name="bench")
app.add_typer(evaluate.app, name="eval")


def _tell_version(wanted: bool) -> None:
    if wanted:
        from fsqcodec import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with 0 (done), 1 (failed) or 2 (wrong usage)."""
    from fsqcodec.errors import FSQCodecError

    try:
        app(args=arguments)
    except FSQCodecError as error:
        sys.exit(fail(str(error)))
    except ModuleNotFoundError as error:
        sys.exit(fail(f"{error.name} is not installed; pip install 'fsqcodec[bench]' brings it"))
    except OSError as error:
        sys.exit(fail(trouble(error)))


if __name__ == "__main__":
    main()
