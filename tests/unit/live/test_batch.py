"""Batches: many live streams at once, and clips of different lengths through the module."""

from __future__ import annotations

import gc
import tracemalloc

import fsqcodec
import numpy as np
import pytest
import torch
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.live.packet import LivePacket
from fsqcodec.train.evaluation.metrics import pesq_wideband
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def _blocks(speech: Samples, size: int) -> list[Samples]:
    return list(speech[: len(speech) // size * size].reshape(-1, size))


def test_a_stream_of_a_batch_is_a_stream(codec: NeuralAudioCodec, speech: Samples) -> None:
    batch, alone = fsqcodec.BatchEncoder(codec, 3, 2), fsqcodec.LiveEncoder(codec, 2)
    many, one = fsqcodec.BatchDecoder(codec, 3, 2), fsqcodec.LiveDecoder(codec)
    heard, expected, same = [], [], 0
    blocks = _blocks(speech, batch.samples)
    for i, block in enumerate(blocks):
        if i == 7:
            batch.reset(2)
            many.reset(2)
        other = blocks[i - 7] if i >= 7 else block * 0.5
        packets = batch.push(np.stack([block, block[::-1], other]))
        (packet,) = alone.push(block)
        same += packets[0] == packet
        heard.append(many.push(packets))
        expected.append(one.push(packet))
    assert same >= len(blocks) - 1  # a latent on the border of two cells may fall to either side
    joined, lag = np.concatenate(heard, 1), codec.model.config.lag
    mine = np.concatenate(expected)
    assert (
        pesq_wideband(
            torch.from_numpy(joined[0, lag:]), torch.from_numpy(mine[: joined.shape[1] - lag]), 24000
        )
        > 4
    )
    # The third stream was reset and is the first one, seven packets later.
    late = 7 * batch.samples
    assert np.abs(joined[2, late:] - joined[0, : joined.shape[1] - late]).max() < 0.02


def test_lost_packets_of_one_stream_do_not_touch_the_others(codec: NeuralAudioCodec, speech: Samples) -> None:
    sender = fsqcodec.BatchEncoder(codec, 2, 2)
    packets = [sender.push(np.stack([block, block])) for block in _blocks(speech, sender.samples)]
    whole, holed = fsqcodec.BatchDecoder(codec, 2, 2), fsqcodec.BatchDecoder(codec, 2, 2)
    for i, (a, b) in enumerate(packets):
        x = whole.push([a, b])
        y = holed.push([a, None if 20 <= i < 30 else b"rubbish" if i == 40 else b])
        assert np.array_equal(x[0], y[0])
        if 26 <= i < 30:
            assert np.abs(y[1]).max() == 0  # concealment ends
    assert np.abs(x[1] - y[1]).max() < 1e-4  # it has recovered


def test_streams_of_a_batch_are_predicted_each_by_itself(codec: NeuralAudioCodec, speech: Samples) -> None:
    sender = fsqcodec.BatchEncoder(codec, 2, 2, independent_every=1000)
    whole, holed = fsqcodec.BatchDecoder(codec, 2, 2), fsqcodec.BatchDecoder(codec, 2, 2)
    for i, block in enumerate(_blocks(speech, sender.samples)[:20]):
        a, b = sender.push(np.stack([block, block]))
        x, y = whole.push([a, b]), holed.push([a, None if i == 5 else b])
        assert np.array_equal(x[0], y[0])
        assert holed.needs_independent.tolist() == [False, 5 < i < 10]
        assert not whole.needs_independent.any()
        if i == 9:
            sender.request_independent(1)
    assert np.abs(x[1] - y[1]).max() < 0.05 * np.abs(x[1]).max() + 1e-3


def test_every_stream_of_a_batch_keeps_to_the_bitrate(codec: NeuralAudioCodec, speech: Samples) -> None:
    voice = np.tile(speech, 4)
    batch = fsqcodec.BatchEncoder(codec, 2, 5, independent_every=50, kbps=3)
    quiet = np.zeros(batch.samples, np.float32)
    packets = [batch.push(np.stack([block, quiet])) for block in _blocks(voice, batch.samples)]
    loud, still = (8 * sum(map(len, sent)) / (len(packets) * 100) for sent in zip(*packets, strict=True))
    assert 2.5 < loud < 3.3
    assert still < loud / 2
    stages = [{LivePacket.unpack(packet, codec.stages).stages for packet in sent[-20:]}
              for sent in zip(*packets, strict=True)]  # fmt: skip
    assert max(stages[0]) < codec.stages
    assert stages[1] == {codec.stages}  # silence has room for all of them


def test_memory_stays_where_it_was(codec: NeuralAudioCodec) -> None:
    rng = np.random.default_rng(0)
    sender, receiver = fsqcodec.BatchEncoder(codec, 2, 1), fsqcodec.BatchDecoder(codec, 2, 1)

    def run(count: int) -> None:
        for _ in range(count):
            receiver.push(sender.push(rng.normal(0, 0.05, (2, sender.samples)).astype(np.float32)))

    run(20)
    gc.collect()
    tracemalloc.start()
    run(5)
    before = tracemalloc.get_traced_memory()[0]
    run(150)
    gc.collect()
    assert tracemalloc.get_traced_memory()[0] - before < 20_000
    tracemalloc.stop()


def test_what_does_not_fit_is_refused(codec: NeuralAudioCodec) -> None:
    with pytest.raises(ValueError, match="streams"):
        fsqcodec.BatchEncoder(codec, 0)
    with pytest.raises(ValueError, match="kbps"):
        fsqcodec.BatchEncoder(codec, 2, kbps=0)
    with pytest.raises(ValueError, match="samples"):
        fsqcodec.BatchEncoder(codec, 2).push(np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="2 streams"):
        fsqcodec.BatchDecoder(codec, 2).push([None])


def test_padded_clips_have_the_tokens_of_unpadded_ones(codec: NeuralAudioCodec, speech: Samples) -> None:
    model = codec.model
    lengths = torch.tensor([len(speech), 30000, 481, 0])
    batch = torch.zeros(4, len(speech))
    for row, length in zip(batch, lengths, strict=True):
        row[:length] = torch.from_numpy(speech)[:length]
        row[length:] = 0.3  # must be ignored
    with torch.no_grad():
        tokens, _, mask = model.encode(batch, lengths)
        back = model.decode(tokens, mask)
        assert not tokens[~mask].any()
        for i, length in enumerate(lengths.tolist()):
            if not length:
                assert not mask[i].any()
                continue
            alone, _, own = model.encode(batch[i : i + 1, :length])
            assert own.all()
            assert int(mask[i].sum()) == alone.shape[1]
            assert float((tokens[i][mask[i]] == alone[0]).float().mean()) > 0.999
            single = model.decode(tokens[i : i + 1, : alone.shape[1]])[0, :length]
            assert torch.allclose(back[i, :length], single, atol=1e-4)


def test_gradients_reach_the_samples_through_the_quantizer(codec: NeuralAudioCodec, speech: Samples) -> None:
    x = torch.from_numpy(speech[None, :24000].copy()).requires_grad_(True)
    _, values, mask = codec.model.encode(x)
    y = codec.model.decode(values, mask)[:, :24000]
    (y - x.detach()).square().mean().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert float(x.grad.abs().max()) > 0
    codec.model.zero_grad()
