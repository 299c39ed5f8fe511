"""Rows of a benchmark's table, and the sound that it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.tokens import Encoded
from fsqcodec.media.audio import AudioReader
from numpy.typing import NDArray

Row = dict[str, Any]
"""Cells by column: text and numbers, JSON values."""
Signal = NDArray[np.float32]
"""Samples (n,)."""


def mean(rows: Sequence[Row]) -> Row:
    """Mean of every column of numbers."""
    numbers = [column for column, value in rows[0].items() if isinstance(value, int | float)]
    return {column: sum(row.get(column, 0.0) for row in rows) / len(rows) for column in numbers}


def first_channel(file: Path, sample_rate: int | None = None) -> tuple[Signal, int]:
    """The first channel of a media file, and its rate in Hz; resampled to `sample_rate` where one is given.

    Raises:
        MediaError: the file cannot be read.
    """
    with AudioReader(file, sample_rate) as reader:
        return reader.read()[0], sample_rate or reader.facts.sample_rate


def joined(files: Sequence[Path], sample_rate: int, seconds: float | None = None) -> Signal:
    """Media files one after the other, at a rate in Hz; over and again for so many seconds, if asked.

    Raises:
        MediaError: a file cannot be read.
    """
    signal = np.concatenate([first_channel(file, sample_rate)[0] for file in files])
    return signal if seconds is None else np.resize(signal, int(seconds * sample_rate))


def encoded(codec: NeuralAudioCodec, file: Path) -> Encoded:
    """Tokens of the first channel of a media file.

    Raises:
        MediaError: the file cannot be read.
    """
    return codec.encode(*first_channel(file))
