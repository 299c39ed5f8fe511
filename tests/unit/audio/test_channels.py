"""Two channels are coded by what is in them: each by itself, or as mid and side, stretch by stretch."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from fsqcodec.audio.channels import prefers_mid_side, streams_of, to_channels, to_streams
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.tokens import Encoded, StereoRun, stereo_runs
from fsqcodec.bitstream.reader import Reader
from fsqcodec.bitstream.writer import Writer
from fsqcodec.errors import BitstreamError
from fsqcodec.media.audio import Samples
from hypothesis import given, settings
from hypothesis import strategies as st


def _noise(seed: int, samples: int = 4800) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@given(st.integers(0, 9), st.booleans())
def test_streams_become_the_channels_again(seed: int, mid_side: bool) -> None:
    block = np.stack([_noise(seed), _noise(seed + 10)])
    assert np.allclose(to_channels(to_streams(block, mid_side), mid_side), block, atol=1e-6)


def test_what_is_alike_is_mid_and_side_and_what_is_not_is_not() -> None:
    a, b = _noise(1), _noise(2)
    assert prefers_mid_side(np.stack([a, a]), None)
    assert prefers_mid_side(np.stack([a, a + 0.1 * b]), False)
    for apart in (np.stack([a, b]), np.stack([0 * a, b]), np.stack([a, 0 * b]), np.stack([a, 0.1 * b])):
        assert not prefers_mid_side(apart, None)
        assert not prefers_mid_side(apart, True)
    silence = np.zeros((2, 100), np.float32)
    assert prefers_mid_side(silence, True)
    assert not prefers_mid_side(silence, False)


def test_a_voice_on_the_right_leaves_the_left_silent(codec: NeuralAudioCodec, speech: Samples) -> None:
    voice = speech[:48000]
    encoded = codec.encode(np.stack([np.zeros_like(voice), voice]), kbps=6)
    left, right = codec.decode(codec.from_bytes(codec.to_bytes(encoded)))
    assert np.abs(left).max() < 10 ** (-60 / 20)
    assert np.abs(right).max() > 0.1


def test_every_stretch_is_coded_its_way_and_packets_say_so(codec: NeuralAudioCodec, speech: Samples) -> None:
    five = np.resize(speech, 120000)
    other = np.roll(five, 9000)
    sound = np.concatenate([np.stack([five, five]), np.stack([five, other]), np.stack([five, five])], axis=1)
    encoded = codec.encode(sound, stages=3)
    assert encoded.mid_side
    assert encoded.stereo == (StereoRun(0, True), StereoRun(250, False), StereoRun(500, True))
    data = codec.to_bytes(encoded)
    packets = [(p.stream, p.start, p.stereo) for p in Reader(io.BytesIO(data))]
    assert packets == [
        (0, 0, None),
        (1, 0, None),
        (0, 250, 0),
        (1, 250, 0),
        (0, 500, None),
        (1, 500, None),
    ]
    back = codec.from_bytes(data)
    assert back.stereo == encoded.stereo
    heard = codec.decode(back)
    for start in (0, 240000):  # alike channels come back alike, but for a moment at the border
        alike = heard[:, start + 4800 : start + 120000]
        assert np.abs(alike[0] - alike[1]).max() < 0.02
    apart = heard[:, 124800:240000]
    assert np.corrcoef(apart)[0, 1] < 0.5
    part = np.concatenate(
        [
            codec.decode_blocks(
                codec.bitstream.read(reader), reader.header, first=reader.seek(600)
            ).__next__()
            for reader in [Reader(io.BytesIO(codec.to_bytes(encoded, 1.0)))]
        ],
        axis=1,
    )
    assert np.abs(part[0] - part[1]).max() < 0.02


@settings(max_examples=20)
@given(st.lists(st.integers(1, 60), max_size=4), st.booleans(), st.integers(1, 70))
def test_runs_come_back_from_bytes(
    codec: NeuralAudioCodec, steps: list[int], first: bool, frames: int
) -> None:
    starts = np.cumsum([0, *steps])
    runs = tuple(StereoRun(int(start), bool(i % 2) ^ first) for i, start in enumerate(starts))
    total = int(starts[-1]) + 10
    tokens = np.random.default_rng(0).integers(0, 625, (2, 3, total))
    encoded = Encoded(tokens, 24000, total * 480 - 480, first, stereo=runs if len(runs) > 1 else ())
    back = codec.from_bytes(codec.to_bytes(encoded, frames / 50))
    assert np.array_equal(back.tokens, tokens)
    assert back.mid_side == first
    assert back.stereo == encoded.stereo


def test_a_signal_is_matrixed_run_by_run() -> None:
    sound = np.stack([_noise(3, 30), _noise(4, 30)])
    streams = streams_of(sound, (StereoRun(0, True), StereoRun(2, False)), 10)
    assert np.array_equal(streams[:, 20:], sound[:, 20:])
    assert np.array_equal(streams[:, :20], to_streams(sound[:, :20], True))


def test_runs_that_make_no_sense_are_refused() -> None:
    assert stereo_runs([[0, 1], [5, 0]]) == (StereoRun(0, True), StereoRun(5, False))
    for wrong in ([[1, 1]], [[0, 1], [0, 0]], [[0, 1], [5, 0], [3, 1]]):
        with pytest.raises(ValueError, match="stereo"):
            stereo_runs(wrong)


@pytest.mark.parametrize(
    ("channels", "modes"), [(1, (1,)), (3, (0, None, None)), (2, (0, 1)), (2, (1, None))]
)
def test_stereo_modes_that_cannot_be_are_damage(
    codec: NeuralAudioCodec, channels: int, modes: tuple[int | None, ...]
) -> None:
    encoded = codec.encode(np.stack([_noise(c, 24000) for c in range(channels)]), stages=3)
    header = codec.bitstream.header(encoded, 250)
    file = io.BytesIO()
    writer = Writer(file, header)
    for packet in codec.bitstream.packets(encoded, 250):
        writer.write(replace(packet, stereo=modes[packet.stream]))
    writer.finish()
    with pytest.raises(BitstreamError, match=r"stereo mode|different ways"):
        codec.from_bytes(file.getvalue())
