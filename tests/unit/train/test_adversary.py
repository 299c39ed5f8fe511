"""The adversary of a decoder."""

from __future__ import annotations

import torch
from fsqcodec.train.audio.discriminator import SpectrumDiscriminator, adversarial_terms


def test_an_adversary_and_a_decoder_do_not_train_each_other() -> None:
    adversary, x = SpectrumDiscriminator(4), 0.1 * torch.randn(2, 8000)
    y = (x + 0.01 * torch.randn(2, 8000)).requires_grad_()
    own, asked = adversarial_terms(adversary, y, x)
    assert torch.autograd.grad(own, y, retain_graph=True, allow_unused=True) == (None,)
    weights = list(adversary.parameters())
    wanted = asked["adversarial"] + asked["features"]
    assert all(g is None for g in torch.autograd.grad(wanted, weights, retain_graph=True, allow_unused=True))
    assert torch.autograd.grad(wanted, y, retain_graph=True)[0].abs().max() > 0
    assert all(g.isfinite().all() for g in torch.autograd.grad(own, weights))
