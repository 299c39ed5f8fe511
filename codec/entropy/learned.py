"""A learned prior in integers, whatever it codes: its tensors checked, finalised and told from all others.

A model file holds the tensors and a *known answer*, a hash of them and of the network's logits for made-up
tokens. It is computed once, when a prior is finalised, and compared whenever it is loaded: a machine or
library that computed anything else would be noticed before it decodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ModelError
from . import integer

Tensors = dict[str, NDArray[np.integer]]
ANSWER = "answer"
"""Name of the known answer among the tensors."""
_LARGEST_SHIFT = 24


class TensorSpec(NamedTuple):
    """What a tensor of a prior must be."""

    dtype: type[np.integer]
    shape: tuple[int, ...]


class LearnedPrior(ABC):
    """Tensors of an exact network that codes tokens.

    Args:
        tensors: by name, as training exports them.
        carrier: float type of the matrix products; the integers are the same.
        finalise: compute the known answer, for tensors that were just made.

    Raises:
        ModelError: tensors are missing, could overflow, or do not give the known answer.
    """

    def __init__(self, tensors: Tensors, carrier: torch.dtype, finalise: bool) -> None:
        self.tensors, self.carrier = tensors, carrier
        if finalise:
            self.tensors = {**tensors, ANSWER: np.zeros(32, np.uint8)}
        self._check()
        self._float = {k: torch.from_numpy(v.astype(np.float64)).to(carrier) for k, v in self.tensors.items()}
        if finalise:
            self.tensors[ANSWER] = np.frombuffer(self._answer(), np.uint8)
        else:
            self.self_test()
        self.hash = self.tensors[ANSWER].tobytes()[:4]
        """What headers name it by."""

    def self_test(self) -> None:
        """Compute the known answer and compare.

        Raises:
            ModelError: this machine gives another, or the tensors are not those that were finalised.
        """
        if self._answer() != self.tensors[ANSWER].tobytes():
            raise ModelError("prior: does not give its known answer; the model file is damaged or altered")

    def _answer(self) -> bytes:
        return integer.fingerprint(self.tensors, self._probe())

    def _check(self) -> None:
        """Types and shapes, and a proof that no sum can pass what the carrier holds exactly."""
        specs = self._specs()
        if {name: array.dtype for name, array in self.tensors.items()} != {
            name: np.dtype(spec.dtype) for name, spec in specs.items()
        }:
            raise ModelError("prior: tensors are missing or of another type")
        for name, spec in specs.items():
            shape = self.tensors[name].shape
            if shape != spec.shape:
                raise ModelError(f"prior: {name} is {shape} where {spec.shape} is needed")
        shifts = self._shifts()
        if shifts.min() < 0 or shifts.max() > _LARGEST_SHIFT:
            raise ModelError("prior: scales out of range")
        for name, bound in self._largest_sums().items():
            if bound.max() > integer.LIMIT:
                raise ModelError(
                    f"prior: sums of {name!r} may reach {bound.max()}, more than {integer.LIMIT}"
                )

    @abstractmethod
    def _specs(self) -> Mapping[str, TensorSpec]:
        """What the tensors must be, by name."""

    @abstractmethod
    def _shifts(self) -> NDArray[np.integer]:
        """All scales, and all shifts that follow from them."""

    @abstractmethod
    def _largest_sums(self) -> Mapping[str, NDArray[np.int64]]:
        """By part of the network, the largest absolute value that each sum can take, whatever the tokens.

        That is the bias, and the absolute weights times the largest of what they are multiplied with.
        """

    @abstractmethod
    def _probe(self) -> Tensor:
        """Logits of made-up tokens: those of the known answer."""
