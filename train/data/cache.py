"""Decoded media, memory-mapped from a folder: each file is decoded once, and all workers share it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fsqcodec.media.audio import AudioReader
from fsqcodec.media.video_reader import FrameReader
from numpy.typing import NDArray

from .manifest import Item

Clip = NDArray[np.uint8]
"""RGB frames (T, H, W, 3)."""


def cached_samples(item: Item, sample_rate: int, cache: Path) -> NDArray[np.int16]:
    """All samples of a media file, mono, int16 (n,).

    Args:
        item: the file.
        sample_rate: Hz.
        cache: folder.

    Raises:
        MediaError: the file cannot be read.
    """
    within = "" if item.size is None else f"|{item.offset}"
    key = f"{_identity(item.path)}|{sample_rate}{within}"

    def decode() -> NDArray[np.int16]:
        with AudioReader(item.open(), sample_rate, item.key) as reader:
            mono = reader.read().mean(axis=0)
        samples: NDArray[np.int16] = np.clip(np.rint(mono * 32767), -32768, 32767).astype(np.int16)
        return samples

    return _mapped(cache / f"{Path(item.key).stem}-{_digest(key)}.npy", decode)


def cached_frames(file: Path, cache: Path) -> Clip:
    """All frames of a picture or video.

    Args:
        file: the file.
        cache: folder.

    Raises:
        MediaError: the file cannot be read.
    """

    def decode() -> Clip:
        with FrameReader(file) as reader:
            return np.stack([frame.picture for frame in reader])

    return _mapped(cache / f"{file.stem}-{_digest(_identity(file))}.rgb.npy", decode)


def _identity(file: Path) -> str:
    """A file and its version."""
    stat = file.stat()
    return f"{file.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _mapped(path: Path, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The array of a file, which is written first, all at once, if it is missing."""
    if not path.exists():
        array = decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as out:
            np.save(out, array)
        part.replace(path)
    mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    return mapped
