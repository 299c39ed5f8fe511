"""Terms of training's loss that only training has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fsqcodec.train.rate import code_lengths
from fsqcodec.train.visual.blocking_loss import blocking_loss


def test_seams_are_steps_at_borders_where_nothing_hides_them() -> None:
    flat = torch.full((1, 32, 48, 3), 40.0)
    busy = flat + torch.randint(-30, 31, flat.shape, generator=torch.Generator().manual_seed(0))
    stepped, inside = torch.zeros_like(flat), torch.zeros_like(flat)
    stepped[:, :, 16:] = 2
    inside[:, :, 20:] = 2
    assert float(blocking_loss(flat + stepped, flat)) == pytest.approx(
        2.0**2 / 5 / 2
    )  # one border of five, one axis of two
    assert float(blocking_loss(flat + inside, flat)) == 0
    assert float(blocking_loss(flat + 2, flat)) == 0
    assert float(blocking_loss(busy + stepped, busy)) < 0.05 * float(blocking_loss(flat + stepped, flat))


def test_code_lengths_are_cross_entropies_in_bits() -> None:
    logits = torch.randn(5, 3, 7, dtype=torch.float64, requires_grad=True)
    digits = torch.randint(7, (5, 3))
    wanted = torch.nn.functional.cross_entropy(logits.movedim(-1, 1), digits, reduction="none") / np.log(2)
    bits = code_lengths(logits, digits)
    assert torch.allclose(bits, wanted)
    weights = torch.randn_like(bits)
    slopes = [torch.autograd.grad((each * weights).sum(), logits)[0] for each in (bits, wanted)]
    assert torch.allclose(*slopes)
