from __future__ import annotations

import numpy as np
import pytest
import torch
from fsqcodec.errors import BitstreamError, ModelError
from fsqcodec.music.bands import BANDS, CODED, EDGES, SLOTS
from fsqcodec.music.context import features
from fsqcodec.music.model import MusicConfig
from fsqcodec.music.prior import MusicPrior, knob_of
from fsqcodec.train.music.coding import coefficient_bits
from fsqcodec.train.music.prior_network import PriorNetwork

FRAMES, KNOB = 7, 21


@pytest.fixture(scope="module")
def network() -> PriorNetwork:
    torch.manual_seed(3)
    network = PriorNetwork(MusicConfig())
    network.quantize()
    return network


@pytest.fixture(scope="module")
def prior(network: PriorNetwork) -> MusicPrior:
    return MusicPrior(network.export(), finalise=True)


@pytest.fixture(scope="module")
def types() -> torch.Tensor:
    return torch.tensor((0, 2, 2, 1, 0, 1, 0))


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return torch.randint(-4, 5, (FRAMES, 32), generator=torch.Generator().manual_seed(1)).float()


@pytest.fixture(scope="module")
def integers() -> np.ndarray:
    """Laplace-distributed, with a few beyond the table."""
    rng = np.random.default_rng(2)
    found = np.round(rng.laplace(0, 0.4, (FRAMES, 2, CODED))).astype(np.int32)
    found[:, :, ::101] *= 40
    return found


def scales_for(prior: MusicPrior, latents: torch.Tensor, types: torch.Tensor) -> np.ndarray:
    return prior.log_scales(latents, types, KNOB)


def test_integers_say_what_the_quantized_network_says(
    network: PriorNetwork, prior: MusicPrior, latents: torch.Tensor, types: torch.Tensor
) -> None:
    knob = torch.tensor([knob_of(KNOB)])
    scales = network.log_scales(latents[None], types[None], knob)[0].detach()
    assert np.abs(8 * scales.numpy() - scales_for(prior, latents, types)).max() <= 1
    logits = network.latent_logits(latents[None], knob)[0].detach()
    assert (64 * logits - prior._latent_logits(latents, KNOB)).abs().max() <= 2


def test_side_information_comes_back(prior: MusicPrior, latents: torch.Tensor, types: torch.Tensor) -> None:
    wanted, kinds = latents.int().numpy(), types.to(torch.uint8).numpy()
    message = prior.encode_side(wanted, kinds, KNOB)
    found, found_types, knob = prior.decode_side(message, FRAMES)
    assert np.array_equal(found, wanted)
    assert np.array_equal(found_types, kinds)
    assert knob == KNOB


def test_no_latent_tells_itself_or_a_later_one(network: PriorNetwork, latents: torch.Tensor) -> None:
    knob = torch.tensor([0.0])
    seen = latents[None].clone().requires_grad_()
    for channel in (0, 9, 31):
        (gradient,) = torch.autograd.grad(network.latent_logits(seen, knob)[0, 3, channel].sum(), seen)
        assert gradient[0, 4:].abs().sum() == 0
        assert gradient[0, 3, channel // 8 * 8 :].abs().sum() == 0
        assert gradient[0, 2].abs().sum() > 0


def test_integers_come_back(
    prior: MusicPrior, latents: torch.Tensor, types: torch.Tensor, integers: np.ndarray
) -> None:
    kinds, scales = types.to(torch.uint8).numpy(), scales_for(prior, latents, types)
    rows, bits = prior.theta.rows(integers, kinds, scales)
    coded = np.where(rows >= 0, integers, 0)
    assert (coded != 0).any()
    message, raw = prior.encode_integers(coded, kinds, scales)
    assert np.array_equal(prior.decode_integers(message, raw, kinds, scales), coded)
    assert abs(8 * (len(message) + len(raw)) - bits) < 32 + 0.01 * bits


def test_choosing_and_decoding_use_the_same_rows(
    prior: MusicPrior, latents: torch.Tensor, types: torch.Tensor, integers: np.ndarray
) -> None:
    kinds, scales = types.to(torch.uint8).numpy(), scales_for(prior, latents, types)
    scaled = integers * 1.1 + np.float32(0.3)
    chosen, bits = prior.theta.choose(scaled.astype(np.float32), kinds, scales, 7.0)
    assert prior.theta.rows(chosen, kinds, scales)[1] == pytest.approx(bits)
    plain = np.where(prior.theta.rows(chosen, kinds, scales)[0] >= 0, np.round(scaled), 0).astype(np.int32)
    assert bits < prior.theta.rows(plain, kinds, scales)[1]


def test_counting_in_floats_agrees(
    network: PriorNetwork, prior: MusicPrior, latents: torch.Tensor, types: torch.Tensor, integers: np.ndarray
) -> None:
    kinds, scales = types.to(torch.uint8).numpy(), scales_for(prior, latents, types)
    rows, bits = prior.theta.rows(integers, kinds, scales)
    coded = torch.from_numpy(rows >= 0)[None]
    real = torch.from_numpy(scales).float()[None] / 8
    told = coefficient_bits(network, None, torch.from_numpy(integers)[None], real, types[None], coded, 1.0)  # type: ignore[arg-type]
    assert float(told.detach().sum()) == pytest.approx(bits, rel=0.01)


def test_contexts_look_back_only(types: torch.Tensor, integers: np.ndarray) -> None:
    kinds = types.to(torch.uint8).numpy()[None]
    other = integers.copy()
    other[4, 1, 400] += 7  # a 1×960 frame
    same = features(integers[None], kinds)[0], features(other[None], kinds)[0]
    changed = np.argwhere((same[0] != same[1]).any(-1))
    assert len(changed)
    assert all(
        frame > 4 or (frame == 4 and channel == 1 and place > 400) for frame, channel, place in changed
    )


def test_damage_is_told(prior: MusicPrior, network: PriorNetwork, latents: torch.Tensor) -> None:
    tensors = dict(prior.tensors)
    tensors["theta_first"] = tensors["theta_first"].copy()
    tensors["theta_first"][0, 0] ^= 1
    with pytest.raises(ModelError, match="known answer"):
        MusicPrior(tensors)
    with pytest.raises(BitstreamError):
        prior.decode_side(b"\x15" + b"\xff" * 300, 200)


def test_bands_fit_all_blocks() -> None:
    assert len(EDGES) == BANDS + 1
    assert all(edge % SLOTS == 0 for edge in EDGES)
