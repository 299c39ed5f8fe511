"""The picture codec from Python: exact tokens, layers, groups of frames, damage, training."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import fsqcodec
import numpy as np
import pytest
import torch
from fsqcodec.bitstream.reader import Reader
from fsqcodec.bitstream.writer import Writer
from fsqcodec.checkpoints import save_model, visual_weights
from fsqcodec.entropy import integer, range_coder
from fsqcodec.entropy.kernels import frequency_rows
from fsqcodec.errors import BitstreamError, ModelError
from fsqcodec.media.video_reader import Frame
from fsqcodec.train.visual.prior import VisualPriorNetwork
from fsqcodec.visual.codec import NeuralVisualCodec
from fsqcodec.visual.context import Layout
from fsqcodec.visual.header import SideInfo, VisualHeader
from fsqcodec.visual.model import VisualConfig, VisualModel
from fsqcodec.visual.prior import VisualPrior
from fsqcodec.visual.skip import Skips
from helpers import GOLDEN
from hypothesis import given
from hypothesis import strategies as st
from media import picture, psnr

SMALL = VisualConfig(
    fine_channels=16, coarse_channels=16, encoder_blocks=(1, 1), decoder_blocks=(1, 1), groups=4, stages=10,
    stages_per_layer=2, levels=(5, 5), qualities=3, prior_width=12,
)  # fmt: skip


@cache
def random_prior(config: VisualConfig, seed: int) -> tuple[VisualPriorNetwork, VisualPrior]:
    torch.manual_seed(seed)
    network = VisualPriorNetwork(config)
    for name, parameter in network.named_parameters():
        parameter.data *= 4 if name.startswith("out") else 2
        if name.startswith(("echo", "inner")):
            parameter.data = torch.randint(-200, 200, parameter.shape) / 64
    network.quantize()
    prior = VisualPrior(network.export(), config, finalise=True)
    network.restore(prior)  # biases are rounded at export only
    return network, prior


@cache
def in_double(seed: int) -> VisualPrior:
    return VisualPrior(random_prior(SMALL, seed)[1].tensors, SMALL, carrier=torch.float64)


def random_digits(config: VisualConfig, height: int, width: int, seed: int) -> torch.Tensor:
    layout, rng = Layout.of(config), np.random.default_rng(seed)
    shape = (height, width, layout.passes, layout.channels)
    digits = torch.from_numpy(rng.integers(-(layout.levels // 2), layout.levels // 2 + 1, shape)).float()
    digits[..., -1, layout.width :] = 0  # the last pass refines the first slice only
    return digits


def values_of(config: VisualConfig, digits: torch.Tensor) -> torch.Tensor:
    layout = Layout.of(config)
    return layout.known(digits, layout.passes, 0)


@pytest.fixture(scope="module")
def visual() -> NeuralVisualCodec:
    return fsqcodec.load("visual")


@pytest.fixture(scope="module")
def small() -> NeuralVisualCodec:
    torch.manual_seed(0)
    return NeuralVisualCodec("small", VisualModel(SMALL), random_prior(SMALL, 0)[1], b"12345678", {})


def code(prior: VisualPrior, frames: list[torch.Tensor], layers: int, quality: int = 1) -> list[bytes]:
    coders = [range_coder.encoder() for _ in range(layers)]
    before = None
    for digits in frames:
        before = prior.encode(coders, values_of(SMALL, digits), before, quality)
        assert torch.equal(before, digits)
    return [coder.finish() for coder in coders]


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_frames_come_back_whole_and_by_layers(seed: int, height: int, width: int, count: int) -> None:
    prior = random_prior(SMALL, seed % 5)[1]
    frames = [random_digits(SMALL, height, width, seed + i) for i in range(count)]
    messages = code(prior, frames, 5)
    for layers in (5, 4, 3, 1):
        decoders = [range_coder.decoder(message) for message in messages[:layers]]
        before = None
        for digits in frames:
            before = prior.decode(decoders, height, width, before, 1)
            kept = torch.zeros_like(digits)
            for k in range(layers):
                prior._own(k, kept)[:] = prior._own(k, digits)
            assert torch.equal(before, kept)


@given(
    st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6), st.floats(0, 1), st.sampled_from([0.0, 3.0])
)
def test_what_stays_is_skipped_and_comes_back(
    seed: int, height: int, width: int, share: float, patience: float
) -> None:
    prior, rng = random_prior(SMALL, seed % 5)[1], np.random.default_rng(seed)
    frames = [random_digits(SMALL, height, width, seed)]
    for i in range(3):
        stays = torch.from_numpy(rng.random((height, width)) < share)
        frames.append(
            torch.where(stays[..., None, None], frames[-1], random_digits(SMALL, height, width, seed + 1 + i))
        )
    coders, skips = [range_coder.encoder() for _ in range(5)], Skips(height, width)
    before, coded = None, []
    for digits in frames:
        values = (
            values_of(SMALL, digits) + torch.from_numpy(rng.uniform(-0.4, 0.4, (height, width, 1))).float()
        )
        before = prior.encode(coders, values, before, 1, skips, patience)
        coded.append(before)
        assert patience or torch.equal(before, digits)
    messages = [coder.finish() for coder in coders]
    for layers in (5, 2):
        decoders, skips = [range_coder.decoder(m) for m in messages[:layers]], Skips(height, width)
        before = None
        for digits in coded:
            before = prior.decode(decoders, height, width, before, 1, skips)
            for k in range(layers):
                assert torch.equal(prior._own(k, before), prior._own(k, digits))


def test_what_does_not_move_costs_next_to_nothing(visual: NeuralVisualCodec) -> None:
    frames = [Frame(picture(96, 128), i) for i in range(12)]
    one, all_of = (sum(map(len, visual.encode_group(group, 0, 5).layers)) for group in (frames[:1], frames))
    assert all_of - one < 11 * 6
    moving = [Frame(picture(96, 128, shift=3.0 * i), i) for i in range(12)]
    assert sum(map(len, visual.encode_group(moving, 0, 5).layers)) > 2 * one


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2))
def test_integers_are_those_of_the_quantized_float_network(
    seed: int, height: int, width: int, quality: int
) -> None:
    network, prior = random_prior(SMALL, seed % 7)
    wide = in_double(seed % 7)
    now, before = random_digits(SMALL, height, width, seed), random_digits(SMALL, height, width, seed + 1)
    for previous in (None, before):
        with torch.no_grad():
            floats = network(
                now[None], torch.tensor([quality]), None if previous is None else previous[None]
            )[0]
        for k in range(prior.layout.layers):
            logits = prior._logits(k, now, previous, quality)
            assert torch.equal(logits, wide._logits(k, now, previous, quality))
            assert torch.equal(logits, torch.floor(floats[:, :, k] * 64).long())


@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(2, 9))
def test_frequencies_are_the_same_by_rows_and_at_once(seed: int, count: int, levels: int) -> None:
    logits = np.random.default_rng(seed).integers(-1500, 1500, (count, levels)).astype(np.int32)
    logits[::3] = logits[::3] // 200  # ties
    table = integer.weight_table()
    at_once = integer.frequencies(
        torch.from_numpy(logits).long(), torch.ones(levels, dtype=torch.bool), table
    )
    assert np.array_equal(frequency_rows(logits, table.numpy()), at_once.numpy())


def test_plain_integers_agree() -> None:
    """The first layer's logits of one position in Python integers, from the exported tensors alone."""
    _, prior = random_prior(SMALL, 3)
    digits = random_digits(SMALL, 3, 3, 0)
    w = {name: array.astype(object) for name, array in prior.tensors.items()}
    first, mix, out = prior.scales[0]
    # White field (0, 1): black neighbours at (0, 0), (0, 2), (1, 1) are what it may see: magnitudes, then signed values.
    width, levels = prior.layout.width, prior.layout.levels
    seen = []
    for place in (None, (0, 0), (0, 2), (1, 1)):
        own = [0] * width if place is None else [int(v) * levels**2 for v in digits[*place, 0, :width]]
        seen += [min(96, abs(v)) for v in own] + own
    assert len(seen) == prior.layout.inputs(0, "beside")
    units = [
        int(w["bias0"][0, 1, j]) + sum(v * w["beside0"][i, j] for i, v in enumerate(seen)) for j in range(12)
    ]
    shift = first + 4 - 7
    units = [min(127, max(0, u >> shift if shift >= 0 else u << -shift)) for u in units]
    units = [min(127, max(0, (sum(u * w["mix0"][i, j] for i, u in enumerate(units)) + w["mix_bias0"][j]) >> mix)) for j in range(12)]  # fmt: skip
    logits = [(sum(u * w["out0"][i, j] for i, u in enumerate(units)) + w["out_bias0"][j]) >> (out + 1) for j in range(width * levels)]  # fmt: skip
    assert prior._logits(0, digits, None, 1)[0, 1].flatten().tolist() == logits


def test_threads_do_not_matter(visual: NeuralVisualCodec) -> None:
    data = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            data.append(visual.encode_picture(picture(96, 128), 6))
            assert psnr(visual.decode_picture(data[0]), picture(96, 128)) > 25
        finally:
            torch.set_num_threads(1)
    assert data[0] == data[1]


def test_golden_file_decodes_to_its_tokens() -> None:
    """Made once: `visual.npz` holds a prior and the digits of two frames that `visual.fsq` was coded from."""
    stored = dict(np.load(GOLDEN / "visual.npz"))
    frames = torch.from_numpy(stored.pop("frames").astype(np.float32))
    prior = VisualPrior(stored, SMALL)
    reader = Reader(io.BytesIO((GOLDEN / "visual.fsq").read_bytes()))
    assert isinstance(reader.header, VisualHeader)
    assert reader.header.table_hash == prior.hash
    (packet,) = reader
    side = SideInfo.unpack(packet.layers[0], packet.frames)
    assert (side.quality, side.times) == (2, (-3, 40))
    decoders = [range_coder.decoder(message) for message in packet.layers[1:]]
    before = None
    for digits in frames:
        before = prior.decode(decoders, *digits.shape[:2], before, side.quality - 1)
        assert torch.equal(before, digits)


def test_altered_or_foreign_priors_are_refused(small: NeuralVisualCodec, tmp_path: Path) -> None:
    altered = {name: array.copy() for name, array in small.prior.tensors.items()}
    altered["mix0"][0, 0] += 1
    with pytest.raises(ModelError, match="known answer"):
        VisualPrior(altered, SMALL)
    too_large = {name: array.copy() for name, array in small.prior.tensors.items()}
    too_large["out_bias1"][0] = 1 << 25
    with pytest.raises(ModelError, match="may reach"):
        VisualPrior(too_large, SMALL, finalise=True)
    data = small.encode_picture(picture(32, 32), 1)
    other = NeuralVisualCodec("other", small.model, random_prior(SMALL, 9)[1], small.model_hash, {})
    with pytest.raises(ModelError, match="--model"):
        other.decode_picture(data)
    save_model(tmp_path / "m.safetensors", small.model, {}, prior=small.prior)
    again = fsqcodec.load(tmp_path / "m.safetensors")
    assert again.prior.hash == small.prior.hash
    with pytest.raises(ModelError, match="for visual"):
        fsqcodec.checkpoints.audio_weights(tmp_path / "m.safetensors")
    assert visual_weights(tmp_path / "m.safetensors").model.config == SMALL


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 33), (64, 80), (250, 90)])
def test_any_size_comes_back(visual: NeuralVisualCodec, height: int, width: int) -> None:
    original = picture(height, width)
    back = visual.decode_picture(visual.encode_picture(original, 8))
    assert back.shape == original.shape
    assert back.dtype == np.uint8


def test_quality_and_layers_are_ordered(visual: NeuralVisualCodec) -> None:
    original = picture(160, 208)
    sizes, quality = [], []
    for q in (1, 3, 5, 8):
        data = visual.encode_picture(original, q)
        sizes.append(len(data))
        quality.append(psnr(visual.decode_picture(data), original))
    assert sizes == sorted(sizes)
    assert quality == sorted(quality)
    by_stages = [psnr(visual.decode_picture(data, stages), original) for stages in (12, 24, 48, 72, 108)]
    assert by_stages == sorted(by_stages)
    with pytest.raises(ValueError, match="quality"):
        visual.encode_picture(original, 9)


def test_strips_join_without_a_seam(visual: NeuralVisualCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    original = picture(400, 96)
    whole = visual.analyse(original, 4)
    coarse = torch.round(whole / 49).clamp(-3, 3)
    digits = torch.stack([coarse, torch.zeros_like(whole), torch.zeros_like(whole)], 2)
    decoded = visual.synthesise(digits, 4, 400, 96)
    monkeypatch.setattr("fsqcodec.visual.groups._STRIP", 64 * 96)
    assert torch.allclose(visual.analyse(original, 4), whole, atol=1e-3)
    assert np.abs(visual.synthesise(digits, 4, 400, 96).astype(int) - decoded).max() <= 1


def test_transparency_is_kept_exactly(visual: NeuralVisualCodec) -> None:
    alpha = np.tile(np.arange(70, dtype=np.uint8) * 3, (50, 1))
    back = visual.decode_picture(visual.encode_picture(picture(50, 70), 5, alpha))
    assert back.shape == (50, 70, 4)
    assert np.array_equal(back[..., 3], alpha)


def test_a_still_scene_costs_little(visual: NeuralVisualCodec) -> None:
    frames = [Frame(picture(96, 128), time) for time in range(4)]
    one = len(visual.encode_group(frames[:1], 0, 4).pack())
    four = len(visual.encode_group(frames, 0, 4).pack())
    assert four < 2 * one


def test_a_scene_cut_begins_a_group(visual: NeuralVisualCodec) -> None:
    scenes = [picture(48, 48)] * 3 + [255 - picture(48, 48)] * 4
    groups = list(visual.groups([Frame(p, i) for i, p in enumerate(scenes)], 5))
    assert [len(group) for group in groups] == [3, 4]
    assert [len(group) for group in visual.groups([Frame(scenes[0], i) for i in range(7)], 5)] == [5, 2]


def _film(codec: NeuralVisualCodec, groups: int) -> tuple[bytes, list[int]]:
    file = io.BytesIO()
    writer = Writer(file, codec.header(40, 48, frames=2 * groups))
    ends = []
    for g in range(groups):
        frames = [Frame(picture(40, 48, shift=5.0 * (2 * g + i)), 2 * g + i) for i in range(2)]
        writer.write(codec.encode_group(frames, 2 * g, 1))
        ends.append(file.tell())
    writer.finish()
    return file.getvalue(), ends


def test_damage_costs_its_group_only(small: NeuralVisualCodec) -> None:
    data, ends = _film(small, 3)
    spoiled = bytearray(data)
    spoiled[(ends[0] + ends[1]) // 2] ^= 0x55
    with pytest.raises(BitstreamError, match="checksum"):
        list(Reader(io.BytesIO(bytes(spoiled))))
    reader = Reader(io.BytesIO(bytes(spoiled)), keep_going=True)
    header = small.check(reader)
    times = [frame.time for packet in reader for frame in small.decode_group(packet, header)]
    assert times == [0, 1, 4, 5]


@given(st.data())
def test_damaged_files_give_errors_and_nothing_else(small: NeuralVisualCodec, data: st.DataObject) -> None:
    whole, _ = _film(small, 1)
    spoiled = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        spoiled[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(spoiled[: data.draw(st.integers(0, len(whole)))])
    for keep_going in (False, True):
        try:
            reader = Reader(io.BytesIO(cut), keep_going=keep_going)
            header = small.check(reader)
            for packet in reader:
                list(small.decode_group(packet, header))
        except (BitstreamError, ModelError):
            pass


@given(st.integers(1, 16384), st.integers(1, 4096), st.integers(0, 2**40), st.text(max_size=20))
def test_headers_come_back(width: int, height: int, frames: int, title: str) -> None:
    header = VisualHeader("m", b"a" * 8, b"b" * 4, width, height, tick=Fraction(1, 90000), frame_rate=Fraction(30000, 1001),
                          frames=frames, stages=32, stages_per_layer=4, packet_frames=32, tags={"title": title})  # fmt: skip
    assert Reader(io.BytesIO(header.pack())).header == header
    assert Reader(io.BytesIO(replace(header, frames=None, still=True).pack())).header.seconds is None
