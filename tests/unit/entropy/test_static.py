"""Static tables of frequencies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fsqcodec.entropy.static import StaticTables
from fsqcodec.errors import ModelError
from fsqcodec.quantization.residual_fsq import ResidualFSQ


@pytest.fixture(scope="module")
def quantizer() -> ResidualFSQ:
    return ResidualFSQ([7, 5, 5], groups=3, stages=7)


@pytest.fixture(scope="module")
def tokens(quantizer: ResidualFSQ) -> np.ndarray:
    torch.manual_seed(3)
    return quantizer.encode(0.5 * torch.randn(400, quantizer.channels)).numpy().astype(np.int32)


@pytest.fixture(scope="module")
def tables(quantizer: ResidualFSQ, tokens: np.ndarray) -> StaticTables:
    return StaticTables.estimate(torch.from_numpy(tokens).long(), quantizer)


@pytest.mark.parametrize(("first", "last"), [(0, 7), (0, 2), (2, 5), (5, 7), (1, 6)])
def test_stages_come_back_given_the_earlier_ones(
    tables: StaticTables, tokens: np.ndarray, first: int, last: int
) -> None:
    message = tables.encode(tokens, first, last)
    got = np.zeros_like(tokens)
    got[:, :first] = tokens[:, :first]
    tables.decode(message, got, first, last)
    assert np.array_equal(got[:, first:last], tokens[:, first:last])
    assert len(message) * 8 <= tables.bits(tokens)[:, first:last].sum() * 1.005 + 8


def test_a_prefix_of_a_message_decodes(tables: StaticTables, tokens: np.ndarray) -> None:
    got = np.zeros((len(tokens), 2), np.int32)
    tables.decode(tables.encode(tokens, 0, 5), got, 0, 2)
    assert np.array_equal(got, tokens[:, :2])


def test_tables_save_bits_and_a_context_saves_more(tables: StaticTables, tokens: np.ndarray) -> None:
    assert tables.bits(tokens).sum() < 0.95 * tokens.size * np.log2(7 * 25)


def test_altered_tables_have_another_hash_and_wrong_ones_are_refused(
    tables: StaticTables, quantizer: ResidualFSQ
) -> None:
    altered = tables.frequencies.copy()
    altered[0, 0, 0, :2] += (1, -1)
    assert StaticTables(altered, quantizer).hash != tables.hash
    altered[0, 0, 0, 0] += 1
    with pytest.raises(ModelError, match="add up"):
        StaticTables(altered, quantizer)
    with pytest.raises(ModelError, match="shape"):
        StaticTables(altered[:3], quantizer)
