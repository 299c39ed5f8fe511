"""What an entropy model of tokens is: it tells the range coder how likely they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class EntropyModel(Protocol):
    """Codes tokens of sound: `StaticTables`, or a learned `Prior`."""

    hash: bytes
    """4 bytes that headers name it by."""

    def encode_layers(self, tokens: NDArray[np.integer], stages_per_layer: int, tail: int = 0) -> list[bytes]:
        """Messages of the layers of one packet's tokens (frames, n), the last stage of the last `tail` frames
        left out."""

    def decode_layers(
        self, messages: Sequence[bytes], frames: int, stages: int, stages_per_layer: int, tail: int = 0
    ) -> NDArray[np.int32]:
        """Tokens int32 (frames, stages) of the first layers of a packet; the middle cell's where one was left
        out.

        Raises:
            BitstreamError: no encoder wrote these messages.
        """

    def encode_whole(self, tokens: NDArray[np.integer], past: NDArray[np.integer] | None = None) -> bytes:
        """One message of all stages of one packet's tokens (frames, n): shorter, but nothing can be left out.

        `past` are tokens (t, n) of the frames before, where the decoder knows them.
        """

    def decode_whole(
        self, message: bytes, frames: int, stages: int, past: NDArray[np.integer] | None = None
    ) -> NDArray[np.int32]:
        """Tokens int32 (frames, stages) of `encode_whole`.

        Raises:
            BitstreamError: no encoder wrote this message.
        """

    def bits(self, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
        """Ideal code lengths of one packet's tokens (frames, n): bits (frames, n)."""
