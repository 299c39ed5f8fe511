from __future__ import annotations

import numpy as np
import pytest
import torch
from fsqcodec.errors import BitstreamError
from fsqcodec.music.codec import PACKET_FRAMES, MusicCodec, MusicPacket
from fsqcodec.music.model import MusicConfig, MusicModel
from fsqcodec.music.prior import MusicPrior
from fsqcodec.train.music.prior_network import PriorNetwork
from numpy.typing import NDArray

Sound = NDArray[np.float32]


@pytest.fixture(scope="module")
def codec() -> MusicCodec:
    """Of random weights; what it says of levels is wrong, but all must fit together."""
    torch.manual_seed(4)
    config = MusicConfig(width=32)
    network = PriorNetwork(config)
    network.quantize()
    return MusicCodec(MusicModel(config).eval(), MusicPrior(network.export(), finalise=True))


@pytest.fixture(scope="module")
def sound() -> Sound:
    """A second and a half of a chord over noise, with a click, (n, 2)."""
    time = np.arange(72321) / 48000
    noise = np.random.default_rng(1).standard_normal((len(time), 2)) * 0.02
    noise[40000:40010] += 0.7
    chord = sum(np.sin(2 * np.pi * f * time) for f in (220.0, 277.2, 3520.0))
    return (noise + 0.1 * np.asarray(chord)[:, None] * (1, 0.5)).astype(np.float32)


def test_sound_comes_back_in_length_and_nearer_with_more_bits(codec: MusicCodec, sound: Sound) -> None:
    errors, sizes = [], []
    for knob in (2, 20, 40):
        packets = codec.encode(sound, knob)
        assert [packet.frames for packet in packets] == [50, 26]
        decoded = codec.decode(packets, len(sound))
        assert decoded.shape == sound.shape
        assert decoded.dtype == np.float32
        errors.append(float(np.square(decoded - sound).mean()))
        sizes.append(sum(packet.size for packet in packets))
    assert errors[0] < errors[1] < errors[2]
    assert sizes[0] > sizes[1] > sizes[2]


def test_encoding_twice_gives_the_same_bytes(codec: MusicCodec, sound: Sound) -> None:
    assert codec.encode(sound, 20) == codec.encode(sound, 20)


def test_a_packet_decodes_by_itself_but_for_the_overlap(codec: MusicCodec, sound: Sound) -> None:
    packets = codec.encode(sound, 20)
    whole, alone = codec.decode(packets), codec.decode(packets[:1])
    inner = (PACKET_FRAMES - 1) * 960
    assert len(alone) == PACKET_FRAMES * 960
    assert np.allclose(alone[:inner], whole[:inner], atol=1e-5)
    assert not np.allclose(alone[inner:], whole[inner : len(alone)], atol=1e-3)


def test_no_packets_are_no_sound(codec: MusicCodec) -> None:
    assert codec.decode([]).shape == (0, 2)


def test_an_impossible_packet_is_told(codec: MusicCodec, sound: Sound) -> None:
    first = codec.encode(sound, 20)[0]
    with pytest.raises(BitstreamError):
        codec.decode([MusicPacket(first.frames, b"", first.magnitudes, first.raw)])
    with pytest.raises(BitstreamError):
        codec.decode([MusicPacket(first.frames, b"\xff" + first.side[1:], first.magnitudes, first.raw)])
