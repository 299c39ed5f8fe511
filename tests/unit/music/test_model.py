from __future__ import annotations

import torch
from fsqcodec.music.bands import BANDS, CODED, Bands
from fsqcodec.music.block_choice import choose_blocks
from fsqcodec.music.model import MusicConfig, MusicModel, Side
from fsqcodec.music.reconstruct import dequantize, quantize
from fsqcodec.music.transform import LappedTransform

TYPES = torch.tensor([[0, 2, 1, 0]])


def test_spread_and_gather_are_inverse() -> None:
    bands = Bands()
    values = torch.randn(1, 4, 2, CODED, generator=torch.Generator().manual_seed(1))
    kinds = TYPES[..., None]
    slots = bands.gather(values, kinds)
    assert torch.allclose(bands.gather(bands.spread(slots, kinds), kinds), slots, atol=1e-6)


def test_a_click_lies_in_its_slot() -> None:
    bands, transform = Bands(), LappedTransform("vorbis")
    sound = torch.zeros(1, 2, 4 * 960)
    sound[0, 0, 960 + 600] = 1  # the third slot of the second frame, which has four blocks
    levels = bands.levels(transform(sound, TYPES[:, None]).transpose(1, 2), TYPES[..., None])
    assert levels[0, 1, 0].mean(-1).argmax() == 2
    assert levels[0, 1, 1].max() == -90


def test_steps_of_all_channels_follow_the_loudest() -> None:
    levels = torch.full((1, 2, 4, BANDS), -90.0)
    levels[0, 0, :, 10] = -20
    steps = Bands().steps(levels, -9.0)
    assert steps[0, 1, 0, 10] > steps[0, 1, 0, 0] + 30
    assert (steps[0, 0] - steps[0, 1]).abs().max() < 4


def test_the_decoder_looks_back_only() -> None:
    torch.manual_seed(2)
    model, knob = MusicModel(MusicConfig(width=32)), torch.tensor([-9.0])
    latents = torch.zeros(1, 4, 32)
    other = latents.clone()
    other[0, 2] = 3
    one, two = model.decode(latents, TYPES, knob), model.decode(other, TYPES, knob)
    assert torch.equal(one.levels[:, :2], two.levels[:, :2])
    assert not torch.allclose(one.levels[:, 3], two.levels[:, 3])


def test_a_block_has_one_level() -> None:
    torch.manual_seed(2)
    side = MusicModel(MusicConfig(width=32)).decode(torch.randn(1, 4, 32), TYPES, torch.tensor([-9.0]))
    assert (side.levels[0, 0] == side.levels[0, 0, :, :1]).all()
    assert torch.equal(side.levels[0, 2, :, 0], side.levels[0, 2, :, 1])
    assert not torch.equal(side.levels[0, 2, :, 1], side.levels[0, 2, :, 2])


def test_noise_fills_what_levels_promise() -> None:
    bands, generator = Bands(), torch.Generator().manual_seed(1)
    levels = torch.full((1, 4, 2, 4, BANDS), -40.0)
    side = Side(levels, torch.zeros_like(levels), torch.zeros_like(levels))
    steps = torch.ones_like(levels)
    noise = torch.rand(1, 4, 2, CODED, generator=generator) * 2 - 1
    integers = torch.zeros(1, 4, 2, CODED, dtype=torch.int32)
    filled = dequantize(integers, steps, side, TYPES, bands, noise)
    power = 10 * torch.log10(filled[..., :CODED].square().mean())
    assert abs(power - (-40 + 20 * torch.log10(torch.tensor(0.65)))) < 0.3
    assert filled[..., CODED:].abs().max() == 0


def test_finer_steps_come_nearer() -> None:
    values = torch.randn(1, 1, 1, CODED, generator=torch.Generator().manual_seed(1))
    coded = torch.ones_like(values, dtype=torch.bool)
    errors = [
        float((quantize(values, torch.full_like(values, step), coded) * step - values).square().mean())
        for step in (2.0, 0.5, 0.1)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_a_click_asks_for_short_blocks_and_a_tone_for_long_ones() -> None:
    transform, bands = LappedTransform("vorbis"), Bands()
    time = torch.arange(9600) / 48000
    tone = 0.2 * torch.sin(2 * torch.pi * 1000 * time)
    click = tone * 1e-3
    click[5000:5040] += 0.8
    types = [
        choose_blocks(torch.stack((sound, 0 * sound)), -9.0, transform, bands) for sound in (tone, click)
    ]
    assert (types[0][1:-1] == 0).all()
    assert types[1][5000 // 960] > 0
