"""Model files, one `NAME.safetensors` each: weights and tables, with configuration and provenance inside."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from fsqcodec.entropy.static import StaticTables
from fsqcodec.errors import ModelError
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


class StoredModel(Protocol):
    """Networks of any modality."""

    kind: str
    """Name of the modality, as in `fsqcodec.registry`."""
    int8_matrices: bool
    """Whether matrices are stored in 8 bits."""

    @property
    def config(self) -> Any:
        """Has `to_dict`."""

    def state_dict(self) -> dict[str, Any]:
        """Weights by name."""


class StoredPrior(Protocol):
    """A prior in integers."""

    @property
    def tensors(self) -> Mapping[str, NDArray[np.integer]]:
        """By name."""


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
    path: Path,
    model: StoredModel,
    metadata: dict[str, Any],
    tables: StaticTables | None = None,
    prior: StoredPrior | None = None,
) -> None:
    """Write a model, weights in fp16, an audio model's matrices in int8; the file appears only when complete.

    Without tables (audio) or prior (pictures) it starts a training run, but it cannot write `.fsq` files.
    """
    tensors: dict[str, Tensor] = {}
    for key, weight in model.state_dict().items():
        tensors |= _packed(key, weight.detach().float().cpu(), model.int8_matrices)
    if tables:
        tensors["tables"] = torch.from_numpy(tables.frequencies)
    for name, array in (prior.tensors if prior else {}).items():
        tensors[_PRIOR + name] = torch.from_numpy(array.copy())
    part = path.with_suffix(f".{os.getpid()}.part")
    texts = {
        k: json.dumps(v)
        for k, v in {**metadata, "kind": model.kind, "config": model.config.to_dict()}.items()
    }
    save_file(tensors, part, metadata=texts)
    part.replace(path)


def _packed(key: str, weight: Tensor, small: bool) -> dict[str, Tensor]:
    """A weight as it is stored. Tokens depend on the encoder: it is stored in 8 bits only where they lose nothing."""
    if not small or weight.dim() != 2:
        return {key: weight.half().contiguous()}
    rows, step = _in_8_bits(weight)
    if key.startswith("encoder.") and not torch.equal(rows * step.float(), weight):
        return {key: weight.half().contiguous()}
    return {key: rows.to(torch.int8), key + _STEP: step}


def _in_8_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers -127 … 127 (rows, columns), and what they are multiples of in each row, fp16 (rows, 1)."""
    step = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=1e-7).half()
    # Integers have no negative zero, which the hash of the tokens would see.
    return torch.round(weight / step.float()).clamp(-127, 127) + 0.0, step


@torch.no_grad()
def round_matrices(network: nn.Module) -> None:
    """Move the matrices of a network to values that `save_model` stores in 8 bits without loss."""
    for weight in network.parameters():
        if weight.dim() == 2:
            rows, step = _in_8_bits(weight)
            weight.copy_(rows * step.float())


class Stored(NamedTuple):
    """Contents of a model file."""

    name: str
    """The file's, without its ending."""
    metadata: dict[str, Any]
    """Configuration, provenance and scores."""
    tensors: dict[str, Tensor]
    """Float32, or int32 as they are."""
    integers: dict[str, NDArray[np.integer]]
    """Of the prior."""

    @property
    def kind(self) -> str:
        """Name of the modality."""
        return str(self.metadata.get("kind", "audio"))


@contextmanager
def opened(name: str | Path, kind: str | None = None) -> Iterator[Stored]:
    """Contents of a model file, of one kind if it is given; errors in what is made of them name the file.

    Raises:
        ModelError: no such model, its file is damaged, or it is of another kind.
    """
    path = find_model(name)
    metadata = read_metadata(path)
    if kind not in (None, metadata.get("kind", "audio")):
        raise ModelError(f"{path}: a model for {metadata['kind']}, where one for {kind} is needed")
    try:
        with safe_open(path, "pt") as file:
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        integers = {
            key.removeprefix(_PRIOR): stored.pop(key).numpy()
            for key in list(stored)
            if key.startswith(_PRIOR)
        }
        steps = {key: stored.pop(key).float() for key in list(stored) if key.endswith(_STEP)}
        tensors = {
            k: v.float() * steps.get(k + _STEP, 1) if v.dtype != torch.int32 else v for k, v in stored.items()
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on levels is for those who choose them
            yield Stored(path.stem, metadata, tensors, integers)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path}: damaged, or made by another version of fsqcodec ({' '.join(str(error).split())[:200]})"
        ) from None
