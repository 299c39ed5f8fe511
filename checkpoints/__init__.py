"""The shipped models, and opening them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast, overload

from fsqcodec.audio.codec import AudioWeights, NeuralAudioCodec
from fsqcodec.protocols import AudioCodec, VisualCodec
from fsqcodec.registry import modality, resolve
from fsqcodec.visual.codec import NeuralVisualCodec, VisualWeights

from .identity import token_hash
from .store import (
    DEFAULT,
    FOLDER,
    Stored,
    find_model,
    opened,
    read_metadata,
    round_matrices,
    save_model,
    shipped,
)

__all__ = [
    "DEFAULT",
    "FOLDER",
    "audio_weights",
    "find_model",
    "load",
    "load_audio",
    "load_visual",
    "read_metadata",
    "round_matrices",
    "save_model",
    "shipped",
    "token_hash",
    "visual_weights",
]


def _restored(file: Stored) -> Any:
    return resolve(modality(file.kind).weights).restore(file.metadata["config"], file.tensors, file.integers)


def _weights(name: str | Path, kind: str) -> Any:
    with opened(name, kind) as file:
        return _restored(file)


def audio_weights(name: str | Path) -> AudioWeights:
    """Networks, tables and prior of an audio model's file.

    Raises:
        ModelError: no such model, its file is damaged, or it is for pictures.
    """
    return cast(AudioWeights, _weights(name, "audio"))


def visual_weights(name: str | Path) -> VisualWeights:
    """Networks and prior of a picture model's file.

    Raises:
        ModelError: no such model, its file is damaged, or it is for audio.
    """
    return cast(VisualWeights, _weights(name, "visual"))


@overload
def load(name: Literal["speech-24k"] = "speech-24k") -> AudioCodec: ...
@overload
def load(name: Literal["visual"]) -> VisualCodec: ...
@overload
def load(name: str | Path) -> AudioCodec | VisualCodec: ...
def load(name: str | Path = DEFAULT) -> AudioCodec | VisualCodec:
    """Open a shipped model by name, or a model file by path.

    Returns:
        a `fsqcodec.AudioCodec` for sound, a `fsqcodec.VisualCodec` for pictures and video.

    Raises:
        ModelError: no such model, its file is damaged, or it is not finished.
    """
    codec: AudioCodec | VisualCodec = _codec(name)
    return codec


def load_audio(name: str | Path = DEFAULT) -> NeuralAudioCodec:
    """Open a model for sound, as `load` does.

    Raises:
        ModelError: no such model, its file is damaged or not finished, or it is for pictures.
    """
    return cast(NeuralAudioCodec, _codec(name, "audio"))


def load_visual(name: str | Path = "visual") -> NeuralVisualCodec:
    """Open a model for pictures and video, as `load` does.

    Raises:
        ModelError: no such model, its file is damaged or not finished, or it is for sound.
    """
    return cast(NeuralVisualCodec, _codec(name, "visual"))


def _codec(name: str | Path, kind: str | None = None) -> Any:
    with opened(name, kind) as file:
        weights = _restored(file)
        return weights.codec(file.name, token_hash(weights.model), file.metadata)
