"""Live sound: what arrives, in whatever order, and what does not."""

from __future__ import annotations

import tracemalloc

import fsqcodec
import numpy as np
import pytest
from fsqcodec.audio.chunked import StreamDecoder, StreamEncoder
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.bitstream.packet import Packet
from fsqcodec.live.packet import LivePacket
from fsqcodec.train.evaluation.metrics import pesq_wideband, si_sdr
from fsqcodec.train.evaluation.packet_loss import measure
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import from_numpy

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def packets(codec: NeuralAudioCodec, speech: Samples) -> list[bytes]:
    sender = fsqcodec.LiveEncoder(codec, packet_frames=2)
    found = [packet for part in np.array_split(speech, 37) for packet in sender.push(part)]
    return found + sender.flush()


@pytest.fixture(scope="module")
def heard(codec: NeuralAudioCodec, packets: list[bytes]) -> Samples:
    receiver = fsqcodec.LiveDecoder(codec)
    return np.concatenate([*(receiver.push(packet) for packet in packets), receiver.flush()])


def test_nothing_lost_sounds_like_the_stream(
    codec: NeuralAudioCodec, speech: Samples, heard: Samples
) -> None:
    stream, decoder = StreamEncoder(codec.networks, block=2), StreamDecoder(codec.networks, block=1)
    tokens = np.concatenate([stream.push(speech), stream.flush()])
    pairs = (tokens[start : start + 2] for start in range(0, len(tokens), 2))  # as packets bring them
    whole = np.concatenate([*map(decoder.push, pairs), decoder.flush()])
    count = min(len(whole), len(heard))
    assert count >= len(speech)
    assert np.array_equal(whole[:count], heard[:count])
    assert si_sdr(from_numpy(heard[: len(speech)].copy()), from_numpy(speech)) > 3
    assert fsqcodec.LiveEncoder(codec, 1).delay == pytest.approx(0.04)


@pytest.fixture(scope="module")
def first_second(codec: NeuralAudioCodec, packets: list[bytes]) -> Samples:
    """What is heard of 25 packets."""
    receiver = fsqcodec.LiveDecoder(codec)
    return np.concatenate([*map(receiver.push, packets[:25]), receiver.flush()])


@settings(max_examples=20)
@given(st.data())
def test_order_and_repetition_do_not_matter_to_a_jitter_buffer(
    codec: NeuralAudioCodec, packets: list[bytes], first_second: Samples, data: st.DataObject
) -> None:
    packets = packets[:25]
    arriving = list(range(len(packets)))
    for i in range(0, len(arriving) - 3, 3):
        arriving[i : i + 3] = data.draw(st.permutations(arriving[i : i + 3]))
    repeated = data.draw(st.lists(st.integers(0, len(packets) - 1), max_size=4))
    if arriving[0] != 0:  # where a stream begins is told by its first packet
        arriving.remove(0)
        arriving.insert(0, 0)
    receiver = fsqcodec.LiveDecoder(codec, jitter_buffer=4)
    out = []
    for i in arriving:
        out.append(receiver.push(packets[i]))
        out += [receiver.push(packets[i]) for _ in range(repeated.count(i))]
    out.append(receiver.flush())
    assert np.array_equal(np.concatenate(out), first_second)
    assert receiver.received.concealed == 0
    assert receiver.received.dropped == len(repeated)


def test_losses_are_concealed_and_forgotten(
    codec: NeuralAudioCodec, packets: list[bytes], heard: Samples, speech: Samples
) -> None:
    receiver = fsqcodec.LiveDecoder(codec)
    lost = set(range(20, len(packets) - 8, 10))
    got = [receiver.push(packet) for i, packet in enumerate(packets) if i not in lost]
    out = np.concatenate([*got, receiver.flush()])
    assert receiver.received.concealed == 2 * len(lost)
    assert len(out) == len(heard)
    frame = codec.model.config.frame
    silent = heard.copy()
    for i in lost:
        silent[2 * i * frame : 2 * (i + 1) * frame] = 0
    n = len(speech)
    concealed, hole = (
        pesq_wideband(from_numpy(y[:n].copy()), from_numpy(speech), 24000) for y in (out, silent)
    )
    assert concealed is not None
    assert hole is not None
    assert concealed > hole
    # A tenth of a second after the next packet it is as if nothing had been lost.
    end = (2 * (max(lost) + 1) + 5) * frame
    error = np.abs(out[end : end + 4 * frame] - heard[end : end + 4 * frame]).max()
    assert error < 0.05 * np.abs(heard).max()


def test_damaged_and_foreign_packets_are_dropped(
    codec: NeuralAudioCodec, packets: list[bytes], heard: Samples
) -> None:
    receiver = fsqcodec.LiveDecoder(codec)
    spoiled = bytearray(packets[3])
    spoiled[-6] ^= 1
    rubbish = [
        b"",
        b"\xf5",
        bytes(spoiled),
        packets[3][:-1],
        b"\xf5\xff\xff\xff\xff\x7f" + bytes(40),
        bytes(100),
        LivePacket(6, 2, codec.stages, bytes(60), True).pack(codec.stages)[:-2] + bytes(2),
        LivePacket(6, 2048, codec.stages, bytes(60), True).pack(codec.stages * 2),
    ]
    out = []
    for packet in packets:
        out += [receiver.push(packet), *(receiver.push(r) for r in rubbish)]
    assert receiver.received.dropped == len(rubbish) * len(packets)
    assert np.array_equal(np.concatenate([*out, receiver.flush()]), heard)


def test_predicted_packets_sound_the_same_for_fewer_bits(
    codec: NeuralAudioCodec, packets: list[bytes], heard: Samples, speech: Samples
) -> None:
    sender, receiver = fsqcodec.LiveEncoder(codec, 2, independent_every=10_000), fsqcodec.LiveDecoder(codec)
    predicted = sender.push(speech) + sender.flush()
    out = np.concatenate([*map(receiver.push, predicted), receiver.flush()])
    assert np.array_equal(out, heard)
    assert not receiver.needs_independent
    assert sum(map(len, predicted)) < 0.8 * sum(map(len, packets))


def test_predicted_packets_wait_for_the_next_independent_one(
    codec: NeuralAudioCodec, heard: Samples, speech: Samples
) -> None:
    sender = fsqcodec.LiveEncoder(codec, 2, independent_every=10)
    predicted = sender.push(speech) + sender.flush()
    receiver, frame, out = fsqcodec.LiveDecoder(codec), codec.model.config.frame, []
    for i, packet in enumerate(predicted):
        if i != 33:
            out.append(receiver.push(packet))
            assert receiver.needs_independent == (34 <= i < 40)
    out.append(receiver.flush())
    concealed = np.concatenate(out)
    assert receiver.received.concealed == 2 * 7
    assert receiver.received.dropped == 0
    assert len(concealed) == len(heard)
    before = 2 * 33 * frame - codec.model.config.lag
    assert np.array_equal(concealed[:before], heard[:before])
    after = slice(2 * 43 * frame, 2 * 60 * frame)
    assert np.square(concealed[after] - heard[after]).sum() < 1e-2 * np.square(heard[after]).sum()


def test_whoever_lost_a_packet_asks_for_an_independent_one(codec: NeuralAudioCodec, speech: Samples) -> None:
    sender, receiver = fsqcodec.LiveEncoder(codec, 1, independent_every=10_000), fsqcodec.LiveDecoder(codec)
    needed = []
    for i, block in enumerate(speech[: 40 * 480].reshape(40, -1)):
        (packet,) = sender.push(block)
        if i not in (0, 20):  # whoever comes late needs one too
            receiver.push(packet)
        needed.append(receiver.needs_independent)
        if i in (3, 24):  # the request takes three packets to arrive
            sender.request_independent()
    assert [i for i, need in enumerate(needed) if need] == [1, 2, 3, 21, 22, 23, 24]
    with pytest.raises(ValueError, match="independent_every"):
        fsqcodec.LiveEncoder(codec, 2, independent_every=0)
    with pytest.raises(ValueError, match="kbps"):
        fsqcodec.LiveEncoder(codec, 2, kbps=0)


@settings(max_examples=20)
@given(st.data())
def test_whatever_happens_independent_packets_are_heard(
    codec: NeuralAudioCodec, speech: Samples, data: st.DataObject
) -> None:
    every = data.draw(st.integers(1, 6))
    sender, receiver = fsqcodec.LiveEncoder(codec, 1, independent_every=every), fsqcodec.LiveDecoder(codec)
    predicted = sender.push(speech[:14400])
    fates = data.draw(st.lists(st.sampled_from(["well", "lost", "spoiled"]), min_size=30, max_size=30))
    count, whole = 0, False
    for i, (packet, fate) in enumerate(zip(predicted, fates, strict=True)):
        if fate == "well":
            receiver.push(packet)
            whole = whole or i % every == 0
        else:
            receiver.push(packet[:-3] if fate == "spoiled" else b"")
            whole = False
        count += whole
        assert receiver.received.decoded == count


@pytest.mark.parametrize("independent_every", [1, 10_000])
def test_a_bitrate_is_kept_on_average(
    codec: NeuralAudioCodec, speech: Samples, independent_every: int
) -> None:
    long = np.tile(speech, 4)
    sender = fsqcodec.LiveEncoder(codec, 5, independent_every=independent_every, kbps=4)
    receiver = fsqcodec.LiveDecoder(codec)
    packets = sender.push(long[: len(long) // 2])
    state = sender.snapshot()
    rest = sender.push(long[len(long) // 2 :])
    packets += rest
    taken = sum(map(len, packets)) * 8 / 1000 / (len(long) / 24000)
    assert 3.4 < taken < 4.3
    heard = np.concatenate([receiver.push(packet) for packet in packets])
    assert receiver.received.concealed == 0
    assert si_sdr(from_numpy(heard[:74000].copy()), from_numpy(long[:74000].copy())) > 0
    again = fsqcodec.LiveEncoder(codec, 5, independent_every=independent_every, kbps=4)
    again.restore(state)
    assert again.push(long[len(long) // 2 :]) == rest


def test_losses_are_measured_with_and_without_independent_packets_on_request(
    codec: NeuralAudioCodec, speech: Samples
) -> None:
    keys, asked, calm = (
        measure(codec, speech, 2, percent, 1, 3, answer) for percent, answer in ((10, 0), (10, 3), (0, 3))
    )
    assert keys["lost_%"] == asked["lost_%"] > calm["lost_%"] == 0
    assert calm["kbps"] < asked["kbps"] < keys["kbps"]
    assert asked["PESQ-WB"] < keys["PESQ-WB"] < calm["PESQ-WB"]


def test_packets_of_earlier_versions_are_heard(
    codec: NeuralAudioCodec, packets: list[bytes], heard: Samples
) -> None:
    """They were framed as in a file, and their only layer began with the number of stages."""
    receiver, out = fsqcodec.LiveDecoder(codec), []
    for packet in packets:
        found = LivePacket.unpack(packet, codec.stages)
        layer = bytes([found.stages]) + found.message
        out.append(receiver.push(Packet(0, found.start, found.frames, (layer,)).pack()))
    assert np.array_equal(np.concatenate([*out, receiver.flush()]), heard)


def test_a_snapshot_goes_on_as_if_nothing_had_happened(
    codec: NeuralAudioCodec, packets: list[bytes], speech: Samples
) -> None:
    sender, receiver = fsqcodec.LiveEncoder(codec, 2, independent_every=50), fsqcodec.LiveDecoder(codec)
    first = sender.push(speech[:30000])
    for packet in first:
        receiver.push(packet)
    states = sender.snapshot(), receiver.snapshot()
    expected = sender.push(speech[30000:50000])
    played = [receiver.push(packet) for packet in expected]
    again, listener = fsqcodec.LiveEncoder(codec, 2, independent_every=50), fsqcodec.LiveDecoder(codec)
    again.restore(states[0])
    listener.restore(states[1])
    assert again.push(speech[30000:50000]) == expected
    assert all(np.array_equal(a, listener.push(p)) for a, p in zip(played, expected, strict=True))


def test_an_hour_leaves_memory_where_it_was(codec: NeuralAudioCodec, speech: Samples) -> None:
    """Half a minute in steps, and no growth from its first third to its last."""
    sender, receiver = fsqcodec.LiveEncoder(codec, 5), fsqcodec.LiveDecoder(codec)
    sizes = []
    tracemalloc.start()
    for _ in range(3):
        for _ in range(4):
            for packet in sender.push(speech):
                receiver.push(packet)
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[2] - sizes[1] < 20_000


def test_a_gap_is_over_within_100_ms(codec: NeuralAudioCodec, packets: list[bytes], heard: Samples) -> None:
    step = 2 * codec.model.config.frame
    for gone in (20, 35, 50):
        receiver = fsqcodec.LiveDecoder(codec)
        kept = [packet for i, packet in enumerate(packets) if not gone <= i < gone + 5]
        found = np.concatenate([*(receiver.push(packet) for packet in kept), receiver.flush()])
        after = (
            (gone + 5) * step - codec.model.config.lag + 2400
        )  # 100 ms after the next packet's first sample
        error = found[after : after + 12000] - heard[after : after + 12000]
        # 20 dB below the sound: coding itself leaves an SI-SDR of 6 dB.
        assert np.square(error).sum() < 10**-2 * np.square(heard[after : after + 12000]).sum()


def test_former_names_are_understood(codec: NeuralAudioCodec, speech: Samples) -> None:
    assert (fsqcodec.Encoder, fsqcodec.Decoder) == (fsqcodec.LiveEncoder, fsqcodec.LiveDecoder)
    with pytest.warns(DeprecationWarning, match="independent_every"):
        sender = fsqcodec.Encoder(codec, 2, key_every=50)
    with pytest.warns(DeprecationWarning, match="jitter_buffer"):
        receiver = fsqcodec.Decoder(codec, patience=1)
    first, second = sender.push(speech[:1920])
    receiver.push(second)
    receiver.flush()
    with pytest.warns(DeprecationWarning, match="needs_independent"):
        assert receiver.needs_key
    with pytest.warns(DeprecationWarning, match="request_independent"):
        sender.request_key()
    (third,) = sender.push(speech[1920:2880])
    kinds = [LivePacket.unpack(packet, codec.stages).independent for packet in (first, second, third)]
    assert kinds == [True, False, True]
