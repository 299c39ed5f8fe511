"""What the tokens of a model mean, in 8 bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Protocol

from torch import nn


class TokenModel(Protocol):
    """A model of any modality: its tokens depend on the configuration and the encoder."""

    @property
    def encoder(self) -> nn.Module:
        """Its networks."""

    @property
    def config(self) -> Any:
        """Has `to_dict`."""


def token_hash(model: TokenModel) -> bytes:
    """8 bytes that name the meaning of tokens: configuration (but for what only a decoder has) and encoder weights, in fp16.

    The decoder is left out: a better decoder for the same tokens reads the same files.
    """
    shape = {key: value for key, value in model.config.to_dict().items() if key != "excitation"}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for key, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(key.encode() + tensor.half().cpu().numpy().astype("<f2").tobytes())
    return digest.digest()[:8]
