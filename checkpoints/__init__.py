"""Model files: `NAME.safetensors` (weights, fp16) whose metadata hold configuration and provenance."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from fsqcodec.audio.model import AudioConfig, AudioModel
from fsqcodec.errors import ModelError

FOLDER = Path(__file__).parent


def find_model(name: str | Path) -> Path:
    """Path of a shipped model's name or of a `.safetensors` file."""
    path = Path(name)
    return path if path.suffix == ".safetensors" else FOLDER / f"{name}.safetensors"


def save_model(path: Path, model: AudioModel, metadata: dict[str, Any]) -> None:
    """Write the weights of a model in fp16 with its configuration; the file appears only when complete."""
    tensors = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    part = path.with_suffix(f".{os.getpid()}.part")
    texts = {"config": json.dumps(model.config.to_dict()), **{k: json.dumps(v) for k, v in metadata.items()}}
    save_file(tensors, part, metadata=texts)
    part.replace(path)


def load_weights(model: AudioModel, name: str | Path) -> None:
    """Copy the weights of a model file into `model`.

    Raises:
        ModelError: no such file, damaged, or of another shape.
    """
    path = find_model(name)
    try:
        model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path}: {error}") from None
