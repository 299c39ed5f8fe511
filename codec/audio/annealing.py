"""A search for better tokens than the encoder gives at once: its latents are refined through the decoder.

A small encoder sees every sound once and cannot know what the decoder will make of its rounding. Where there
is time, stochastic Gumbel annealing (Yang, Bamler and Mandt 2020, "Improving inference for neural image
compression", section 3.2) asks the decoder: each latent is drawn at random from the two cells beside it, ever
more surely the nearer one, and gradients of what the ear notices (`fsqcodec.losses`) plus λ times the bits of
the prior move it. Files decode as all others do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..entropy.integer import LOGIT_BITS
from ..entropy.rate_gradient import rate_slopes
from ..losses.reconstruction import ReconstructionLoss
from ..nn.bf16 import has_bfloat16
from ..nn.stream_state import History
from .model import AudioModel
from .prior import Prior

_WEIGHTS = {
    "waveform": 0.5,
    "spectrum": 6.0,
    "mel": 3.0,
    "loudness": 3.0,
    "disturbance": 8.0,
    "similarity": 5.0,
    "harmonics": 2.0,
    "rumble": 100.0,
}
"""Those of the training of `speech-24k`, but for more weight where the search would take a little from one
measure to please the others."""
_STEP = 0.025
"""Cells that a latent moves at most in a step."""
_HOT, _COLD = 0.5, 0.1
"""Temperatures of the first and of the last draw."""
_SHORTEST = 0.25
"""Seconds below which there is too little to hear."""


class Search:
    """Refines latents of a stretch of sound.

    Args:
        model: the networks; their parameters get no gradients here.
        prior: tells the bits.
        kept: how many stages of each latent frame will be written, int64 (T,).
        draws: random numbers.
    """

    def __init__(self, model: AudioModel, prior: Prior, kept: Tensor, draws: torch.Generator) -> None:
        self.model, self.prior, self.kept = model, prior, kept
        self.stages = int(kept.max())
        self.rate = model.config.sample_rate
        quantizer = model.quantizer
        slots = torch.arange(quantizer.passes * quantizer.groups) < kept[:, None]
        passes = torch.unflatten(slots, 1, (quantizer.passes, -1)).sum(1)
        self.cells: Tensor = quantizer.levels ** passes.repeat_interleave(len(quantizer.group_levels), 1)
        """Of each channel's range, (T, D); 1 where no stage is written."""
        self._written = (torch.arange(self.stages) < kept[:, None])[None, ..., None]
        self._terms = ReconstructionLoss(self.rate)
        self._draws = draws
        self._fast = has_bfloat16()
        """Whether the decoder computes as in training while it is asked for gradients: a fifth of the time
        less, and as good."""

    def positions(self, latents: Tensor) -> Tensor:
        """Latents (T, D) counted in cells: whole numbers at the centres, from 0."""
        return (torch.tanh(latents) + 1) * (self.cells / 2) - 0.5

    def tokens(self, positions: Tensor) -> Tensor:
        """Tokens int64 (T, stages) of the nearest cells; the middle one where none is written."""
        centres = self._values(self._inside(positions).round())
        return self.model.quantizer.encode(torch.atanh(centres))[..., : self.stages]

    def decode(self, positions: Tensor, history: History) -> Tensor:
        """Samples (1, T·frame) of the nearest cells, `lag` samples late; the history goes on."""
        return self._decode(self._values(self._inside(positions).round()), history)

    def improve(
        self, positions: Tensor, target: Tensor, history: History, steps: int, weight: float
    ) -> Tensor:
        """Better positions (T, D), unless there are none to be found.

        Args:
            positions: where to begin.
            target: samples (T·frame,) that the decoder should give, `lag` samples late.
            history: the decoder's, before this stretch; it stays as it is.
            steps: of the search.
            weight: λ of the bits a digit of all stages.
        """
        if len(target) < _SHORTEST * self.rate:
            return positions
        with _frozen(self.model), torch.enable_grad():
            wanted = positions.clone().requires_grad_()
            optimizer = torch.optim.Adam([wanted], betas=(0.9, 0.99))
            for step in range(steps):
                share = step / steps
                optimizer.param_groups[0]["lr"] = _STEP * min(1.0, 2 * (1 - share))
                drawn = self._draw(self._inside(wanted), _HOT * (_COLD / _HOT) ** share)
                with torch.autocast("cpu", torch.bfloat16, enabled=self._fast):
                    decoded = self._decode(self._values(drawn), history.copy())
                heard = self._heard(decoded, target)
                optimizer.zero_grad()
                (heard + weight * self._pressure(wanted)).backward()
                optimizer.step()
            found = wanted.detach()
        return min((positions, found), key=lambda each: self._cost(each, target, history, weight))

    def _inside(self, positions: Tensor) -> Tensor:
        return torch.minimum(positions.clamp(min=0), self.cells - 1)

    def _values(self, positions: Tensor) -> Tensor:
        return (positions + 0.5) * (2 / self.cells) - 1

    def _decode(self, values: Tensor, history: History) -> Tensor:
        samples: Tensor = self.model.decoder(values[None], self.kept[None], history)
        return samples

    def _draw(self, positions: Tensor, temperature: float) -> Tensor:
        """Mixtures of the two nearest cells, a random one of them nearly alone when it is cold."""
        below = positions.detach().floor()
        part = (positions - below).clamp(1e-3, 1 - 1e-3)
        odds = torch.stack([-torch.atanh(part), -torch.atanh(1 - part)], -1) / temperature
        noise = -torch.rand(odds.shape, generator=self._draws).clamp(1e-9, 1 - 1e-7).log()
        shares = torch.softmax((odds - noise.log()) / temperature, -1)
        return torch.minimum(below + shares[..., 1], self.cells - 1)

    def _heard(self, decoded: Tensor, target: Tensor) -> Tensor:
        """What a listener misses, the mean over pieces of about a second."""
        pieces = max(1, round(len(target) / self.rate))
        length = len(target) // pieces
        y, x = (signal.flatten()[: pieces * length].view(pieces, length) for signal in (decoded, target))
        return sum(
            (_WEIGHTS[name] * term for name, term in self._terms(y, x).items()), y.new_zeros(())
        ).mean()

    def _digits(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Digits int64 (1, T, stages, d) of the nearest cells, and the prior's logits in nats."""
        digits = self.model.quantizer.stage_digits(self.tokens(positions))[None]
        return digits, self.prior.logits(digits).float() / 2**LOGIT_BITS

    def _pressure(self, positions: Tensor) -> Tensor:
        """Grows as the bits a digit do where positions move."""
        quantizer = self.model.quantizer
        digits, logits = self._digits(positions.detach())
        edge = 1 - 1e-4
        places = quantizer.positions(torch.atanh(self._values(positions).clamp(-edge, edge)))
        places = places[None, :, : self.stages]
        pressed = (rate_slopes(logits, digits, places) * places * self._written).sum()
        return pressed / (digits[0, :, 0].numel() * quantizer.stages)

    @torch.no_grad()
    def _cost(self, positions: Tensor, target: Tensor, history: History, weight: float) -> float:
        digits, logits = self._digits(positions)
        nats = -logits.log_softmax(-1).gather(-1, digits[..., None])[..., 0]
        bits = (nats * self._written).sum() / math.log(2)
        heard = self._heard(self.decode(positions, history.copy()), target)
        return float(heard + weight * bits / (digits[0, :, 0].numel() * self.model.quantizer.stages))


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Without gradients of the parameters, which would cost half of the time."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_()
