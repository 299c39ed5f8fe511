"""The learned prior: the same integers from every implementation, and nothing else accepted."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import fsqcodec
import numpy as np
import pytest
import torch
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.prior import SCALES, TAPS, TYPES, Prior
from fsqcodec.audio.tokens import Encoded
from fsqcodec.bitstream.reader import Reader
from fsqcodec.checkpoints import audio_weights, save_model
from fsqcodec.entropy import integer, kernels
from fsqcodec.entropy.range_coder import TOTAL, check_frequencies
from fsqcodec.entropy.static import StaticTables
from fsqcodec.errors import BitstreamError, ModelError
from fsqcodec.quantization.residual_fsq import ResidualFSQ
from helpers import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

PER_LAYER = 2
Tensors = dict[str, np.ndarray]


def random_tensors(quantizer: ResidualFSQ, width: int, seed: int) -> Tensors:
    """A network of random weights, of scales at which all of its parts matter."""
    rng = np.random.default_rng(seed)
    stages, d, depth = quantizer.stages, len(quantizer.group_levels), max(quantizer.group_levels)
    choices = d * depth
    shapes = {
        "embed": (stages * choices, width), "embed_bias": (width,), "near": (TAPS, width, width),
        "near_bias": (width,), "far": (2, width, width), "far_bias": (width,), "context": (width, width),
        "history": (stages, choices, width), "hidden_bias": (stages, width), "out": (stages, width, choices),
        "out_bias": (stages, choices), "siblings": (stages, choices, choices),
    }  # fmt: skip
    reach = {"embed": 300, "history": 300, "siblings": 400, "embed_bias": 900}
    tensors: Tensors = {}
    for name, shape in shapes.items():
        most = reach.get(name, 40000 if "bias" in name else 60)
        tensors[name] = rng.integers(-most, most, shape).astype(TYPES[name])
    layers = -(-stages // PER_LAYER)
    edges = np.sort(rng.permutation(np.arange(1, width))[: layers - 1])
    tensors["blocks"] = np.array([0, *edges, width], np.int32)
    block = np.repeat(np.arange(layers), np.diff(tensors["blocks"]))
    layer = np.arange(stages * choices) // (choices * PER_LAYER)
    channel = np.arange(choices) // depth
    tensors["embed"] *= layer[:, None] <= block
    tensors["near"] *= block[:, None] <= block
    tensors["far"] *= block[:, None] <= block
    tensors["siblings"] *= channel[:, None] < channel
    scales = dict.fromkeys(SCALES, 8) | {"embed": 9, "history": 10, "siblings": 10}
    tensors["scales"] = np.array([scales[name] for name in SCALES], np.int32)
    tensors["weights"] = integer.weight_table().numpy()
    return tensors


def random_tokens(quantizer: ResidualFSQ, frames: int, seed: int, packets: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, quantizer.codebook_size, (packets, frames, quantizer.stages))


@pytest.fixture(scope="module")
def quantizer() -> ResidualFSQ:
    with pytest.warns(UserWarning, match="advises at least 5"):
        return ResidualFSQ([5, 3], groups=3, stages=5)


@pytest.fixture(scope="module")
def prior(quantizer: ResidualFSQ) -> Prior:
    return Prior(random_tensors(quantizer, 24, 0), quantizer, PER_LAYER, finalise=True)


@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([6, 24, 48]))
def test_every_implementation_gives_the_same_integers(seed: int, frames: int, width: int) -> None:
    quantizer = ResidualFSQ([5, 6], groups=3, stages=5)
    tensors = random_tensors(quantizer, width, seed)
    single = Prior(tensors, quantizer, PER_LAYER, finalise=True)
    double = Prior(tensors, quantizer, PER_LAYER, finalise=True, carrier=torch.float64)
    tokens = random_tokens(quantizer, frames, seed)
    rows = single.frequencies(tokens)
    check_frequencies(rows)
    assert np.array_equal(rows, double.frequencies(tokens))
    assert single.hash == double.hash
    messages = single.encode_layers(tokens[0], PER_LAYER)
    assert np.array_equal(single.decode_layers(messages, frames, 5, PER_LAYER), tokens[0])
    assert abs(8 * sum(map(len, messages)) - single.bits(tokens[0]).sum()) <= 16 * len(messages)
    whole = single.encode_whole(tokens[0])
    assert np.array_equal(single.decode_whole(whole, frames, 5), tokens[0])
    assert abs(8 * len(whole) - single.bits(tokens[0]).sum()) <= 16


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(0, 14), st.integers(1, 5))
def test_frames_that_are_known_are_context_and_cost_nothing(
    seed: int, frames: int, known: int, stages: int
) -> None:
    quantizer = ResidualFSQ([5, 6], groups=3, stages=5)
    prior = Prior(random_tensors(quantizer, 24, seed), quantizer, PER_LAYER, finalise=True)
    tables = StaticTables.estimate(torch.from_numpy(random_tokens(quantizer, 50, seed)[0]).long(), quantizer)
    tokens = random_tokens(quantizer, known + frames, seed)[0, :, :stages]
    past, new = tokens[:known], tokens[known:]
    for coder in (prior, tables):
        message = coder.encode_whole(new, past)
        assert np.array_equal(coder.decode_whole(message, frames, stages, past), new)
        assert abs(8 * len(message) - coder.bits(tokens)[known:].sum()) <= 16


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 5), st.data())
def test_the_last_stage_may_end_before_the_others(
    seed: int, frames: int, stages: int, data: st.DataObject
) -> None:
    tail = data.draw(st.integers(0, frames))
    quantizer = ResidualFSQ([5, 6], groups=3, stages=5)
    tokens = random_tokens(quantizer, frames, seed)[0, :, :stages]
    prior = Prior(random_tensors(quantizer, 24, seed), quantizer, PER_LAYER, finalise=True)
    tables = StaticTables.estimate(torch.from_numpy(random_tokens(quantizer, 50, seed)[0]).long(), quantizer)
    for coder in (prior, tables):
        messages = coder.encode_layers(tokens, PER_LAYER, tail)
        back = coder.decode_layers(messages, frames, stages, PER_LAYER, tail)
        assert np.array_equal(back[: frames - tail], tokens[: frames - tail])
        assert np.array_equal(back[:, :-1], tokens[:, :-1])
        assert (back[frames - tail :, -1] == 2 + 5 * 3).all()  # the middle cells
        spent = 8 * sum(map(len, messages))
        if tail == frames:
            assert messages[:-1] == coder.encode_layers(tokens, PER_LAYER)[:-1]
        assert spent <= coder.bits(back).sum() + 16 * len(messages)


@given(st.integers(0, 2**32), st.integers(0, 3))
@settings(max_examples=15)
def test_plain_python_decodes_what_matrix_products_encoded(seed: int, tail: int) -> None:
    # Without numba's compiler the loops are plain Python: the oracle.
    quantizer = ResidualFSQ([5, 6], groups=3, stages=5)
    prior = Prior(random_tensors(quantizer, 6, seed), quantizer, PER_LAYER, finalise=True)
    tokens = random_tokens(quantizer, 3, seed)[0]
    messages = prior.encode_layers(tokens, PER_LAYER, tail)
    compiled = {name: getattr(kernels, name) for name in ("decode", *kernels.PARTS)}
    with pytest.MonkeyPatch.context() as patch:
        for name, function in compiled.items():
            patch.setattr(kernels, name, function.py_func)
        patch.setattr("fsqcodec.audio.prior.decode", kernels.decode)
        with np.errstate(over="ignore"):
            decoded = prior.decode_layers(messages, 3, 5, PER_LAYER, tail)
            after = prior.decode_whole(prior.encode_whole(tokens, tokens[1:]), 3, 5, tokens[1:])
    assert np.array_equal(after, tokens)
    tokens[3 - tail :, -1] = 2 + 5 * 3
    assert np.array_equal(decoded, tokens)


def test_batches_threads_and_libraries_do_not_matter(codec: NeuralAudioCodec, encoded: Encoded) -> None:
    assert codec.prior
    packet = encoded.tokens[0, :, :50].T[None]
    wanted = codec.prior.frequencies(packet)
    many = random_tokens(codec.model.quantizer, 50, 0, packets=64)
    many[17] = packet
    assert np.array_equal(codec.prior.frequencies(many)[17], wanted[0])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for enabled in (True, False):
                with torch.backends.mkldnn.flags(enabled=enabled):
                    assert np.array_equal(codec.prior.frequencies(packet), wanted)
            with torch.autocast("cpu", torch.bfloat16):
                assert np.array_equal(codec.prior.frequencies(packet), wanted)
    finally:
        torch.set_num_threads(threads)
    double = Prior(codec.prior.tensors, codec.model.quantizer, PER_LAYER + 1, torch.float64)
    assert np.array_equal(double.frequencies(packet), wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_with_tf32_allowed_gives_the_same_integers(codec: NeuralAudioCodec, encoded: Encoded) -> None:
    assert codec.prior
    digits = codec.model.quantizer.stage_digits(
        torch.from_numpy(encoded.tokens[0, :, :50].T.astype(np.int64))
    )
    wanted = codec.prior.logits(digits[None])
    torch.backends.cuda.matmul.allow_tf32 = True
    assert torch.equal(codec.prior.to("cuda").logits(digits[None].cuda()).cpu(), wanted)


def test_layers_can_be_dropped(prior: Prior, quantizer: ResidualFSQ) -> None:
    tokens = random_tokens(quantizer, 9, 1)[0]
    messages = prior.encode_layers(tokens, PER_LAYER)
    for layers in (1, 2, 3):
        stages = min(PER_LAYER * layers, quantizer.stages)
        kept = prior.decode_layers(messages[:layers], 9, stages, PER_LAYER)
        assert np.array_equal(kept, tokens[:, :stages])


def test_any_number_of_stages_is_coded(prior: Prior, quantizer: ResidualFSQ) -> None:
    tokens = random_tokens(quantizer, 9, 1)[0]
    whole = prior.encode_layers(tokens, PER_LAYER)
    for stages in range(1, quantizer.stages + 1):
        messages = prior.encode_layers(tokens[:, :stages], PER_LAYER)
        assert messages[: stages // PER_LAYER] == whole[: stages // PER_LAYER]
        assert np.array_equal(prior.decode_layers(messages, 9, stages, PER_LAYER), tokens[:, :stages])


def test_frequencies_follow_the_logits() -> None:
    logits = torch.tensor([[0, 64, -64, 10**6], [5, 5, 5, 5], [-(10**7), 0, 0, 0]])
    possible = torch.tensor([True, True, True, False])
    rows = integer.frequencies(logits, possible, integer.weight_table())
    check_frequencies(rows.numpy())
    share = rows[0, :3].double() / TOTAL
    assert torch.allclose(share, torch.softmax(torch.tensor([0.0, 1.0, -1.0]).double(), 0), atol=1e-4)
    assert rows[0, 3] == rows[1, 3] == 1
    assert rows[1, 0] >= rows[1, 1] == rows[1, 2]
    assert rows[2, 0] <= 2


def test_a_network_that_could_overflow_is_refused(quantizer: ResidualFSQ) -> None:
    tensors = random_tensors(quantizer, 24, 0)
    for bias in ("embed_bias", "near_bias", "far_bias", "hidden_bias", "out_bias"):
        altered = {key: value.copy() for key, value in tensors.items()}
        altered[bias].flat[0] = integer.LIMIT
        with pytest.raises(ModelError, match="may reach"):
            Prior(altered, quantizer, PER_LAYER, finalise=True)
    exactly = {key: np.zeros_like(value) for key, value in tensors.items()}
    exactly |= {name: tensors[name] for name in ("scales", "blocks")}
    exactly["near_bias"][0] = integer.LIMIT
    Prior(exactly, quantizer, PER_LAYER, finalise=True)
    exactly["near"][0, 0, 0] = -1
    with pytest.raises(ModelError, match="'near' may reach 16777343"):
        Prior(exactly, quantizer, PER_LAYER, finalise=True)


def test_a_weight_altered_by_one_is_noticed(prior: Prior, quantizer: ResidualFSQ) -> None:
    for name in ("embed", "near", "out", "siblings", "hidden_bias", "weights"):
        altered = {key: value.copy() for key, value in prior.tensors.items()}
        altered[name].flat[-1] += 1
        with pytest.raises(ModelError, match="known answer"):
            Prior(altered, quantizer, PER_LAYER)
        assert Prior(altered, quantizer, PER_LAYER, finalise=True).hash != prior.hash


def test_a_file_of_another_prior_is_refused(
    codec: NeuralAudioCodec, encoded: Encoded, tmp_path: Path
) -> None:
    model, tables, own = audio_weights("speech-24k")
    assert own
    other = {key: value.copy() for key, value in own.tensors.items()}
    other["out_bias"][0, 0] += 1
    save_model(
        tmp_path / "other.safetensors", model, {}, tables,
        Prior(other, model.quantizer, own.stages_per_layer, finalise=True),
    )  # fmt: skip
    data = codec.to_bytes(encoded)
    with pytest.raises(ModelError, match="made with model speech-24k"):
        fsqcodec.load(tmp_path / "other.safetensors").from_bytes(data)


def test_without_the_prior_files_are_larger_and_still_read(codec: NeuralAudioCodec, encoded: Encoded) -> None:
    plain = codec.without_prior()
    static, learned = plain.to_bytes(encoded), codec.to_bytes(encoded)
    assert len(learned) < 0.9 * len(static)
    assert np.array_equal(codec.from_bytes(static).tokens, encoded.tokens)
    assert np.array_equal(plain.from_bytes(learned).tokens, encoded.tokens)


def test_rubbish_in_place_of_a_layer_is_an_error(prior: Prior, quantizer: ResidualFSQ) -> None:
    tokens = random_tokens(quantizer, 40, 3)[0]
    messages = prior.encode_layers(tokens, PER_LAYER)
    with pytest.raises(BitstreamError, match="no encoder wrote"):
        prior.decode_layers([b"\xff" * 40, *messages[1:]], 40, 5, PER_LAYER)
    with pytest.raises(BitstreamError, match="layers of 3 stages"):
        prior.decode_layers(messages, 40, 5, 3)


def test_a_damaged_packet_costs_that_packet_only(codec: NeuralAudioCodec, encoded: Encoded) -> None:
    data = bytearray(codec.to_bytes(encoded, 0.5))
    second = list(Reader(io.BytesIO(bytes(data))))[1]
    data[second.offset + 30] ^= 16
    reader = Reader(io.BytesIO(bytes(data)), keep_going=True)
    intact = list(codec.bitstream.read(reader, keep_going=True))
    assert [p.start for p in intact][:2] == [0, second.start + second.frames]
    for packet in intact:
        stretch = encoded.tokens[0, :, packet.start : packet.start + len(packet.tokens)]
        assert np.array_equal(packet.tokens.T, stretch)


@pytest.mark.parametrize(
    ("name", "sha256", "version", "tails"),
    [
        ("prior", "ebad21f0c5897d502e3a652c1d3283539b5350f97b2f17e5c0c5f9b255dc0cd8", 1, [0, 0]),
        ("tail", "27ce55995de166fc0355858cc93d62a26b9caf31d2991df3cd664e429a14d442", 2, [7, 0]),
        ("deflated", "69b1c44544e250805b1d7779391169cd37faefc6287e452f08f1f917674bd0ee", 3, [7, 0]),
    ],
)
def test_golden_files_with_a_prior(name: str, sha256: str, version: int, tails: list[int]) -> None:
    """Written once in November 2026, never again: whoever cannot read them has broken everybody's files."""
    data = (GOLDEN / f"{name}.fsq").read_bytes()
    assert hashlib.sha256(data).hexdigest() == sha256
    arrays = dict(np.load(GOLDEN / "prior.npz"))
    tokens = arrays.pop("tokens")
    with pytest.warns(UserWarning, match="advises at least 5"):
        prior = Prior(arrays, ResidualFSQ([5, 3], groups=3, stages=5), PER_LAYER)
    reader = Reader(io.BytesIO(data))
    assert data[4] == version
    assert reader.header.table_hash == prior.hash
    packets = list(reader)
    assert [packet.tail for packet in packets] == tails
    for packet in packets:
        expected = tokens[packet.start : packet.start + packet.frames].copy()
        expected[packet.frames - packet.tail :, -1] = 2 + 5 * 1  # the middle cells
        back = prior.decode_layers(packet.layers, packet.frames, 5, PER_LAYER, packet.tail)
        assert np.array_equal(back, expected)
        assert tuple(prior.encode_layers(expected, PER_LAYER, packet.tail)) == packet.layers
    assert reader.complete
