"""The networks of a codec for sound as its users see them: arrays in and out, and the state of streams.

What runs them (torch, onnxruntime) is behind this; tokens and samples are NumPy's.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..nn.stream_state import History
from .model import AudioModel


class AudioNetworks(Protocol):
    """Encoder with quantizer, and decoder, for batches of streams."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def frame(self) -> int:
        """Samples in a latent frame."""

    @property
    def lag(self) -> int:
        """Samples by which decoded sound is late."""

    @property
    def stages(self) -> int:
        """Stages of the quantizer."""

    def encode(self, samples: NDArray[np.float32], state: History) -> NDArray[np.int64]:
        """Tokens (streams, T, stages) of samples (streams, T·frame); the state goes on."""

    def decode(
        self, tokens: NDArray[np.int64], stages: NDArray[np.int64], state: History
    ) -> NDArray[np.float32]:
        """Samples (streams, T·frame) of tokens (streams, T, stages), of which `stages` (streams, T) count;
        the state goes on."""

    def state_dict(self, encoding: bool, state: History) -> dict[str, Tensor]:
        """A state by the names of layers, of the encoder or of the decoder: what may be copied and kept."""

    def load_state_dict(self, encoding: bool, state: dict[str, Tensor]) -> History:
        """The state that `state_dict` gave."""


class TorchNetworks:
    """Networks run by torch, without gradients; see `AudioNetworks`."""

    def __init__(self, model: AudioModel) -> None:
        self._model = model
        self.sample_rate, self.frame, self.lag = (
            model.config.sample_rate,
            model.config.frame,
            model.config.lag,
        )
        self.stages = model.quantizer.stages

    @torch.inference_mode()
    def encode(self, samples: NDArray[np.float32], state: History) -> NDArray[np.int64]:
        """See `AudioNetworks.encode`."""
        latents = self._encoder(torch.from_numpy(samples), state)
        tokens: NDArray[np.int64] = self._model.quantizer.encode(latents).numpy()
        return tokens

    @torch.inference_mode()
    def decode(
        self, tokens: NDArray[np.int64], stages: NDArray[np.int64], state: History
    ) -> NDArray[np.float32]:
        """See `AudioNetworks.decode`."""
        counts = torch.from_numpy(stages)
        values = self._model.quantizer.decode(torch.from_numpy(tokens).flatten(0, 1), counts.flatten())
        values = torch.unflatten(values, 0, counts.shape)
        samples: NDArray[np.float32] = self._decoder(values, counts, state).numpy()
        return samples

    def _encoder(self, samples: Tensor, state: History) -> Tensor:
        latents: Tensor = self._model.encoder(samples, state)
        return latents

    def _decoder(self, values: Tensor, stages: Tensor, state: History) -> Tensor:
        samples: Tensor = self._model.decoder(values, stages, state)
        return samples

    def state_dict(self, encoding: bool, state: History) -> dict[str, Tensor]:
        """See `AudioNetworks.state_dict`."""
        return state.state(self._model.encoder if encoding else self._model.decoder)

    def load_state_dict(self, encoding: bool, state: dict[str, Tensor]) -> History:
        """See `AudioNetworks.load_state_dict`."""
        history = History()
        history.set_state(self._model.encoder if encoding else self._model.decoder, state)
        return history
