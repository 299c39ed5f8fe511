from __future__ import annotations

import pytest
import torch
from fsqcodec.music.transform import (
    BLOCKS,
    FRAME,
    LappedTransform,
    dct4,
    frame_count,
    perceptual_entropy,
    window,
)
from hypothesis import given
from hypothesis import strategies as st


@given(
    types=st.lists(st.integers(0, len(BLOCKS) - 1), min_size=1, max_size=9),
    missing=st.integers(0, FRAME - 1),
    shape=st.sampled_from(["sine", "vorbis"]),
    seed=st.integers(0, 2**31),
)
def test_any_blocks_and_any_length_come_back(types: list[int], missing: int, shape: str, seed: int) -> None:
    samples = torch.randn(2, len(types) * FRAME - missing, generator=torch.Generator().manual_seed(seed))
    transform = LappedTransform(shape)
    kinds = torch.tensor(types)
    coefficients = transform(samples, kinds)
    assert coefficients.shape == (2, len(types), FRAME)
    assert torch.allclose(transform.inverse(coefficients, kinds, samples.shape[-1]), samples, atol=1e-5)
    assert coefficients.square().sum() == pytest.approx(samples.square().sum().item(), rel=1e-5)


def test_types_may_differ_between_items_of_a_batch() -> None:
    samples = torch.randn(3, 4 * FRAME)
    types = torch.tensor([[0, 1, 2, 0], [2, 2, 0, 1], [0, 0, 0, 0]])
    transform = LappedTransform()
    together = transform(samples, types)
    for item in range(3):
        assert torch.allclose(together[item], transform(samples[item], types[item]), atol=1e-6)


def test_long_blocks_are_the_textbook_mdct() -> None:
    samples = torch.randn(4 * FRAME, dtype=torch.float64)
    coefficients = LappedTransform()(samples.float(), torch.zeros(4, dtype=torch.long))
    time = torch.arange(2 * FRAME, dtype=torch.float64)
    sine = torch.sin(torch.pi / (2 * FRAME) * (time + 0.5))
    basis = torch.cos(
        torch.pi
        / FRAME
        * (time[:, None] + 0.5 - FRAME / 2)
        * (torch.arange(FRAME, dtype=torch.float64) + 0.5)
    )
    expected = (2 / FRAME) ** 0.5 * (sine * samples[FRAME // 2 : FRAME // 2 + 2 * FRAME]) @ basis
    # A frame begins at a quarter of the textbook's window; its basis is the textbook's, mirrored in time.
    assert torch.allclose(coefficients[1].abs(), expected.float().abs(), atol=1e-4)


@pytest.mark.parametrize("place", [0, 100, 239, 240, 500, 959])
def test_a_click_in_short_blocks_stays_near(place: int) -> None:
    """Noise on the coefficients of a click never reaches further than two short blocks."""
    samples = torch.zeros(5 * FRAME)
    at = 2 * FRAME + place
    samples[at] = 1.0
    transform = LappedTransform()
    types = torch.tensor([0, 0, 2, 0, 0])
    coefficients = transform(samples, types)
    noisy = transform.inverse(coefficients * (1 + 0.5 * torch.sin(torch.arange(FRAME))), types)
    reach = FRAME // BLOCKS[2] * 2
    if 120 <= place < FRAME - 120:  # nearer to the border the long neighbour has a share
        assert noisy[: at - reach].abs().max() < 1e-6
        assert noisy[at + reach + 1 :].abs().max() < 1e-6
    assert noisy[: FRAME - FRAME // 2].abs().max() < 1e-6
    long = transform(samples, torch.zeros(5, dtype=torch.long))
    assert (
        perceptual_entropy(coefficients, torch.tensor(0.1)).sum()
        < perceptual_entropy(long, torch.tensor(0.1)).sum()
    )


def test_frequencies_of_short_blocks_are_sorted() -> None:
    tone = torch.sin(2 * torch.pi * 6000 / 48000 * torch.arange(4 * FRAME))
    transform = LappedTransform()
    for kind in range(len(BLOCKS)):
        energy = transform(tone, torch.full((4,), kind))[1].square()
        assert energy[6000 // 25 - 12 : 6000 // 25 + 12].sum() > 0.98 * energy.sum()


def test_gradients_pass_and_are_orthogonal() -> None:
    samples = torch.randn(2 * FRAME + 7, requires_grad=True)
    types = torch.tensor([0, 2, 1])
    (LappedTransform()(samples, types).square().sum() / 2).backward()
    assert samples.grad is not None
    assert torch.allclose(samples.grad, samples.detach(), atol=1e-5)


def test_windows_keep_power() -> None:
    for shape in ("sine", "vorbis"):
        rising = window(240, shape)
        assert (rising >= 0.7).all()
        assert (rising[1:] >= rising[:-1]).all()
    with pytest.raises(ValueError, match="unknown window"):
        window(240, "round")


def test_dct4_is_its_own_inverse() -> None:
    matrix = dct4(240)
    assert torch.allclose(matrix @ matrix, torch.eye(240, dtype=torch.float64), atol=1e-12)


def test_frame_count() -> None:
    assert [frame_count(samples) for samples in (0, 1, 960, 961)] == [0, 1, 1, 2]
