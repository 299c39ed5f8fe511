"""Muon: steps of one length in all directions."""

from __future__ import annotations

import pytest
import torch
from fsqcodec.train.optim.muon import Muon


@pytest.mark.parametrize("shape", [(24, 64), (64, 24)])
def test_muon_moves_all_directions_alike(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    u, sizes, v = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    sizes = torch.linspace(1, 0.01, len(sizes))
    weight = torch.nn.Parameter(torch.zeros(shape))
    muon = Muon([weight], lr=0.01, momentum=0.9, weight_decay=0.0, dtype=torch.float32)
    weight.grad = u * sizes @ v
    muon.step()
    moved = u.T @ -weight.detach() @ v.T / (0.2 * 0.01 * max(shape) ** 0.5)
    assert ((moved.diag() > 0.3) & (moved.diag() < 1.7)).all()
    assert (moved - moved.diag().diag()).abs().max() < 1e-3
    still = torch.nn.Parameter(torch.ones(shape))
    still.grad = torch.zeros(shape)  # as behind a block that passes everything on
    Muon([still], lr=0.01, momentum=0.9, weight_decay=0.0).step()
    assert (still == 1).all()
