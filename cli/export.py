"""`fsqcodec export`: the networks as ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import console, load_audio


def export(
    model: Annotated[str, typer.Argument(help="A shipped model for sound, or a .safetensors file.")],
    folder: Annotated[Path, typer.Argument(help="Where encoder.onnx and decoder.onnx go.")],
) -> None:
    """Write encoder and decoder as ONNX graphs whose state goes in and out, for any batch and number of frames.

    Quantizer, prior and range coder are not in them; `fsqcodec.export.onnx` says what goes in and out.

    [bold]Example[/bold]

    fsqcodec export speech-24k graphs/
    """
    from fsqcodec.export.onnx import PARTS
    from fsqcodec.export.onnx import export as write

    write(load_audio(model).model, folder)
    for part in PARTS:
        place = folder / f"{part}.onnx"
        console.print(f"{place}: {place.stat().st_size / 1e6:.1f} MB", markup=False)
