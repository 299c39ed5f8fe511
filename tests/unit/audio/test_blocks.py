"""Blocks of the network, compiled and not."""

from __future__ import annotations

import shutil

import pytest
import torch
from fsqcodec.audio.blocks import Block


@pytest.mark.skipif(not shutil.which("g++"), reason="compiling needs a C++ compiler")
def test_compiled_blocks_learn_like_others() -> None:
    torch.manual_seed(0)
    block, x = Block(16, 7, 3), torch.randn(2, 12, 16)
    block(x).square().sum().backward()
    wanted = [block(x).detach(), *(p.grad.clone() for p in block.parameters())]
    block.zero_grad()
    block.compile(dynamic=False)
    y = block(x)
    y.square().sum().backward()
    found = [y.detach(), *(p.grad for p in block.parameters())]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, wanted, strict=True))
