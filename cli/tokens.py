"""`fsqcodec tokens`: media or `.fsq` files to token arrays, and back."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from .common import DEFAULT_MODEL, Model, Overwrite, load_audio, open_source, open_target


def tokens(
    source: Annotated[str, typer.Argument(help="A media file, a .fsq file, or a .npz file of tokens.")],
    target: Annotated[
        str, typer.Argument(help=".npz for tokens; from tokens: .fsq, or a media file's extension.")
    ],
    stages: Annotated[
        int | None, typer.Option(min=1, help="Keep this many stages; all when left out.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    overwrite: Overwrite = False,
) -> None:
    """Turn audio into arrays of tokens for generative models, and tokens back into audio.

    The .npz file holds `tokens`, integers (streams, stages, frames), and `facts`, JSON: model and its hash,
    levels and codebook size, frames a second, and what is needed to give back the original's rate and length.

    [bold]Examples[/bold]

    fsqcodec tokens talk.wav talk.npz --stages 8

    fsqcodec tokens talk.npz talk.wav
    """
    codec = load_audio(model)
    into, out_of = Path(target).suffix.lower() == ".npz", Path(source).suffix.lower() == ".npz"
    if into == out_of:
        raise typer.BadParameter("one of the two must be a .npz file, and only one")
    with open_source(source) as file:
        encoded = _read_npz(codec, file, source) if out_of else _read_media(codec, file, source)
    encoded = codec.limit(encoded, stages=stages)
    with open_target(target, overwrite) as out:
        if into:
            _write_npz(codec, encoded, out)
        elif Path(target).suffix.lower() == ".fsq":
            codec.write(encoded, out)
        else:
            codec.decode_media(encoded, out, Path(target).suffix.lower() or ".wav")


def _read_media(codec: Any, file: IO[bytes], name: str) -> Any:
    if Path(name).suffix.lower() == ".fsq":
        return codec.from_bytes(file.read(), name)
    return codec.encode_media(file, name)


def _read_npz(codec: Any, file: IO[bytes], name: str) -> Any:
    import numpy as np
    from fsqcodec.audio.tokens import Encoded, stereo_runs
    from fsqcodec.errors import BitstreamError, ModelError

    try:
        arrays = np.load(io.BytesIO(file.read()), allow_pickle=False)
        array, facts = arrays["tokens"], json.loads(str(arrays["facts"]))
        made = facts["model_hash"]
        encoded = Encoded(
            array,
            int(facts["sample_rate"]),
            int(facts["samples"]),
            bool(facts["mid_side"]),
            {str(k): str(v) for k, v in facts["tags"].items()},
            arrays.get("kept"),
            str(facts.get("layout", "")),
            stereo_runs(facts.get("stereo", ())),
        )
        size = codec.model.quantizer.codebook_size
        if array.ndim != 3 or array.dtype.kind not in "iu" or not 1 <= array.shape[1] <= codec.stages:
            raise ValueError(f"tokens {array.dtype} {array.shape}")
        kept = encoded.kept
        if kept is not None and (
            kept.shape != (len(array), array.shape[2])
            or kept.dtype.kind not in "iu"
            or (kept.size and not 0 < kept.min() <= kept.max() <= array.shape[1])
        ):
            raise ValueError(f"kept stages {kept.dtype} {kept.shape}")
        if array.size and (array.min() < 0 or array.max() >= size):
            raise ValueError(f"a token outside 0 … {size - 1}")
    except (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, EOFError) as error:
        raise BitstreamError(
            f"{name}: not a file of tokens ({error}); `fsqcodec tokens` writes them"
        ) from None
    if made != codec.model_hash.hex():
        raise ModelError(
            f"{name}: made with model {facts.get('model')} {made}, this is {codec.name} {codec.model_hash.hex()}; "
            "give the model it was made with by --model"
        )
    return encoded


def _write_npz(codec: Any, encoded: Any, out: IO[bytes]) -> None:
    import numpy as np

    quantizer = codec.model.quantizer
    facts = {
        "model": codec.name,
        "model_hash": codec.model_hash.hex(),
        "codebook_size": quantizer.codebook_size,
        "levels": list(quantizer.group_levels),
        "groups": quantizer.groups,
        "frames_per_second": codec.frame_rate,
        "sample_rate": encoded.sample_rate,
        "samples": encoded.samples,
        "mid_side": encoded.mid_side,
        "stereo": encoded.stereo,
        "layout": encoded.layout,
        "tags": encoded.tags,
    }
    buffer = io.BytesIO()  # zip files seek, pipes do not
    kept = {} if encoded.kept is None else {"kept": encoded.kept}
    np.savez_compressed(buffer, tokens=encoded.tokens, facts=np.array(json.dumps(facts)), **kept)
    out.write(buffer.getvalue())
