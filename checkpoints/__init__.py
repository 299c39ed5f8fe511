"""Model files, one `NAME.safetensors` each: weights and tables, with configuration and provenance inside."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from fsqcodec.audio.model import AudioConfig, AudioModel
from fsqcodec.codec import STAGES_PER_LAYER, Codec
from fsqcodec.errors import ModelError
from fsqcodec.prior import Prior
from fsqcodec.tables import StaticTables
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FOLDER = Path(__file__).parent
DEFAULT = "speech-24k"
_PRIOR, _STEP = "prior.", ".step"


def shipped() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def find_model(name: str | Path) -> Path:
    """Path of a shipped model's name, or of a `.safetensors` file.

    Raises:
        ModelError: neither exists.
    """
    path = Path(name) if str(name).endswith(".safetensors") else FOLDER / f"{name}.safetensors"
    if not path.is_file():
        raise ModelError(
            f"{name}: no such model; shipped are {', '.join(shipped())}, or give a .safetensors file"
        )
    return path


def read_metadata(path: Path) -> dict[str, Any]:
    """Configuration, provenance and scores of a model file.

    Raises:
        ModelError: not a model file.
    """
    try:
        with safe_open(path, "pt") as file:
            return {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: not a model file ({error})") from None


def save_model(
    path: Path, model: AudioModel, metadata: dict[str, Any], tables: StaticTables | None = None,
    prior: Prior | None = None,
) -> None:  # fmt: skip
    """Write a model, weights in fp16, the decoder's matrices in int8; the file appears only when complete.

    Without tables the file starts a training run, but it cannot write `.fsq` files.
    """
    tensors: dict[str, Tensor] = {}
    for key, weight in model.state_dict().items():
        tensors |= _packed(key, weight.detach().float().cpu())
    if tables:
        tensors["tables"] = torch.from_numpy(tables.frequencies)
    for name, array in (prior.tensors if prior else {}).items():
        tensors[_PRIOR + name] = torch.from_numpy(array.copy())
    part = path.with_suffix(f".{os.getpid()}.part")
    texts = {k: json.dumps(v) for k, v in {**metadata, "config": model.config.to_dict()}.items()}
    save_file(tensors, part, metadata=texts)
    part.replace(path)


def _packed(key: str, weight: Tensor) -> dict[str, Tensor]:
    """A weight as it is stored. Tokens depend on the encoder: only the decoder is stored in 8 bits."""
    if not key.startswith("decoder.") or weight.dim() != 2:
        return {key: weight.half().contiguous()}
    step = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=1e-7).half()
    rows = torch.round(weight / step.float()).clamp(-127, 127)
    return {key: rows.to(torch.int8), key + _STEP: step}


class Loaded(NamedTuple):
    """Contents of a model file."""

    model: AudioModel
    """Networks, float32."""
    tables: StaticTables | None
    prior: Prior | None


def load_model(name: str | Path) -> Loaded:
    """Networks, tables and prior of a model file.

    Raises:
        ModelError: no such model, or its file is damaged.
    """
    path = find_model(name)
    metadata = read_metadata(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on levels is for those who choose them
            model = AudioModel(AudioConfig.from_dict(metadata["config"]))
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        frequencies = tensors.pop("tables", None)
        integers = {
            key.removeprefix(_PRIOR): tensors.pop(key).numpy()
            for key in list(tensors)
            if key.startswith(_PRIOR)
        }
        steps = {key: tensors.pop(key).float() for key in list(tensors) if key.endswith(_STEP)}
        model.load_state_dict({k: v.float() * steps.get(k + _STEP, 1) for k, v in tensors.items()})
        tables = None if frequencies is None else StaticTables(frequencies.numpy(), model.quantizer)
        prior = Prior(integers, model.quantizer, STAGES_PER_LAYER) if integers else None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: damaged ({' '.join(str(error).split())[:200]})") from None
    return Loaded(model, tables, prior)


def token_hash(model: AudioModel) -> bytes:
    """8 bytes that name the meaning of tokens: configuration and encoder weights, in fp16.

    The decoder is left out: a better decoder for the same tokens reads the same files.
    """
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for key, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(key.encode() + tensor.half().cpu().numpy().astype("<f2").tobytes())
    return digest.digest()[:8]


def load(name: str | Path = DEFAULT) -> Codec:
    """Open a shipped model by name, or a model file by path.

    Raises:
        ModelError: no such model, its file is damaged, or it has no tables yet.
    """
    path = find_model(name)
    model, tables, prior = load_model(path)
    if tables is None:
        raise ModelError(f"{path}: has no frequency tables; take a model that `fsqcodec train` wrote")
    return Codec(path.stem, model, tables, token_hash(model), read_metadata(path), prior)
