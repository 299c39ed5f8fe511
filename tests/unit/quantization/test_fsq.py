from __future__ import annotations

import math

import pytest
import torch
from fsqcodec import FSQ, ResidualFSQ
from fsqcodec.quantization.fsq import PRESETS, from_digits, to_digits
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("size", PRESETS)
def test_every_code_of_every_preset_is_found_again(size: int) -> None:
    fsq = FSQ.preset(size)
    indices = torch.arange(fsq.codebook_size)
    codes = fsq.indices_to_codes(indices)
    assert len(codes.unique(dim=0)) == fsq.codebook_size == math.prod(PRESETS[size])
    assert torch.equal(fsq.codes_to_indices(codes), indices)
    assert abs(math.log2(fsq.codebook_size) - math.log2(size)) < 0.35


@given(level=st.integers(2, 40), z=st.floats(-1, 1))
def test_a_value_is_within_half_a_cell_of_its_centre(level: int, z: float) -> None:
    levels = torch.tensor([level])
    digit = to_digits(torch.tensor([z]), levels)
    assert 0 <= int(digit) < level
    assert abs(float(from_digits(digit, levels)) - z) <= 1 / level + 1e-6


def test_even_and_odd_levels_are_symmetric() -> None:
    for level in (5, 6, 7, 8):
        values = from_digits(torch.arange(level), torch.tensor(level))
        assert torch.allclose(values, -values.flip(0))


def test_gradient_is_tanhs() -> None:
    z = torch.randn(3, 7, 4, requires_grad=True)
    values, _ = FSQ([8, 5, 5, 5])(z)
    values.sum().backward()
    assert z.grad is not None
    assert torch.allclose(z.grad, 1 - torch.tanh(z.detach()) ** 2)


def test_autocast_and_dtypes_do_not_change_the_codes() -> None:
    z = torch.randn(2, 50, 4)
    fsq = FSQ([8, 5, 5, 5])
    values, indices = fsq(z)
    with torch.autocast("cpu", torch.bfloat16):
        cast_values, cast_indices = fsq(z)
    assert values.dtype == cast_values.dtype == torch.float32
    assert torch.equal(indices, cast_indices)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        assert torch.equal(fsq(z.to(dtype))[1], fsq(z.to(dtype).float())[1])


def test_what_the_paper_advises_against_is_told() -> None:
    with pytest.warns(UserWarning, match="at least 5 levels"):
        FSQ([8, 4, 4])
    with pytest.warns(UserWarning, match="channels in one code"):
        FSQ([5] * 9)
    for wrong in ([], [1, 5], [256] * 4):
        with pytest.raises(ValueError, match=r"level|codes"):
            FSQ(wrong)
    with pytest.raises(ValueError, match="no preset"):
        FSQ.preset(1000)


@pytest.mark.parametrize("shape", [(2, 9), (2, 4, 5)])
def test_any_prefix_of_stages_decodes_to_what_training_sees(shape: tuple[int, ...]) -> None:
    rfsq = ResidualFSQ([8, 6, 5], groups=4, stages=10)
    z = torch.randn(*shape, rfsq.channels)
    full, tokens = rfsq(z)
    assert tokens.shape == (*shape, 10)
    errors = []
    for n in range(11):
        values, same = rfsq(z, n)
        assert torch.equal(tokens, same)
        assert torch.allclose(rfsq.decode(tokens[..., :n]), values, atol=1e-6)
        errors.append(float((values - torch.tanh(z)).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert torch.allclose(full, values, atol=1e-6)
    assert torch.equal(rfsq.encode(z), tokens)


def test_each_item_has_its_own_number_of_stages() -> None:
    rfsq = ResidualFSQ([5, 5, 5], groups=3, stages=6)
    z = torch.randn(4, 7, 9)
    together, _ = rfsq(z, torch.tensor([1, 3, 5, 6]))
    for item, n in enumerate((1, 3, 5, 6)):
        assert torch.equal(together[item], rfsq(z[item : item + 1], n)[0][0])


@pytest.mark.parametrize("level", [5, 6])
def test_two_passes_are_the_grid_of_squared_levels(level: int) -> None:
    twice = ResidualFSQ([level] * 3, groups=1, stages=2)
    z = torch.atanh(torch.linspace(-0.9999, 0.9999, 4001))[:, None].expand(-1, 3)
    values = twice(z)[0][:, 0]
    fine = from_digits(to_digits(torch.tanh(z[:, :1]), torch.tensor([level**2])), torch.tensor([level**2]))
    assert len(values.unique().round(decimals=5).unique()) == level**2
    assert ((values - fine[:, 0]).abs() < 1e-6).float().mean() > 0.99  # ties at cell borders may differ


def test_a_dropped_group_gets_no_gradient() -> None:
    rfsq = ResidualFSQ([5, 5, 5], groups=3)
    z = torch.randn(1, 6, 9, requires_grad=True)
    rfsq(z, 1)[0].sum().backward()
    assert z.grad is not None
    assert (z.grad[..., :3] != 0).all()
    assert (z.grad[..., 3:] == 0).all()


def test_statistics_tell_a_collapsed_stage_from_a_full_one() -> None:
    rfsq = ResidualFSQ([5, 5], groups=2)
    tokens = torch.stack([torch.arange(25).repeat(40), torch.full((1000,), 7)], dim=-1)
    full, collapsed = rfsq.statistics(tokens)
    assert full.utilisation == 1
    assert full.perplexity == pytest.approx(25)
    assert full.entropy == pytest.approx(math.log2(25))
    assert collapsed.utilisation == pytest.approx(1 / 25)
    assert collapsed.entropy == 0


def test_wrong_tokens_are_refused() -> None:
    rfsq = ResidualFSQ([5, 5], groups=2)
    with pytest.raises(ValueError, match="stages"):
        rfsq.decode(torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="tokens"):
        rfsq.decode(torch.tensor([[25, 0]]))
    with pytest.raises(ValueError, match="groups"):
        ResidualFSQ([5, 5], groups=3, stages=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_the_same_tokens() -> None:
    rfsq = ResidualFSQ([5] * 4, groups=12, stages=24)
    z = torch.randn(2, 50, 48)
    on_gpu = rfsq.cuda()(z.cuda())[1].cpu()
    assert (on_gpu == rfsq.cpu()(z)[1]).float().mean() > 0.999  # tanh may differ in its last bit
