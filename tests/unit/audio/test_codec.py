"""The shipped model on real speech: round trips, streaming, exact lengths, prefixes, bitrates."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import fsqcodec
import numpy as np
import pytest
import torch
from fsqcodec.audio.blocks import Analysis, Synthesis
from fsqcodec.audio.chunked import BLOCK, StreamDecoder, StreamEncoder
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.excitation import Excitation
from fsqcodec.audio.model import AudioConfig, AudioModel
from fsqcodec.audio.rate_control import code_lengths
from fsqcodec.audio.tokens import Encoded
from fsqcodec.bitstream.reader import Reader
from fsqcodec.bitstream.stats import file_stats
from fsqcodec.bitstream.writer import Writer
from fsqcodec.checkpoints import audio_weights, round_matrices, save_model, token_hash
from fsqcodec.errors import BitstreamError, ModelError
from fsqcodec.train.evaluation.metrics import estoi, si_sdr
from helpers import SPEECH
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

Signal = NDArray[np.float32]


def _estoi(y: Signal, x: Signal) -> float:
    return estoi(torch.from_numpy(y.copy()), torch.from_numpy(x.copy()), 24000) or 0.0


def test_speech_comes_back_intelligible(codec: NeuralAudioCodec, speech: Signal, encoded: Encoded) -> None:
    back = codec.decode(codec.from_bytes(codec.to_bytes(encoded)))
    assert back.shape == (1, len(speech))
    assert _estoi(back[0], speech) > 0.7
    assert si_sdr(torch.from_numpy(back[0]), torch.from_numpy(speech)) > 3


def test_every_prefix_decodes_and_more_stages_are_better(
    codec: NeuralAudioCodec, speech: Signal, encoded: Encoded
) -> None:
    scores = [_estoi(codec.decode(encoded, stages=n)[0], speech) for n in (1, 4, 10, codec.stages)]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.2


@settings(max_examples=15)
@given(st.lists(st.integers(1, 60000), min_size=1, max_size=6), st.integers(0, 2**31))
def test_any_chunk_sizes_give_the_tokens_and_samples_of_the_whole(
    codec: NeuralAudioCodec, speech: Signal, encoded: Encoded, sizes: list[int], seed: int
) -> None:
    encoder, decoder = StreamEncoder(codec.networks), StreamDecoder(codec.networks)
    tokens, samples, at, turn = [], [], 0, 0
    while at < len(speech):
        size = sizes[turn % len(sizes)]
        tokens.append(encoder.push(speech[at : at + size]))
        at, turn = at + size, turn + 1
    tokens.append(encoder.flush())
    joined = np.concatenate(tokens)
    assert np.array_equal(joined.T, encoded.tokens[0])
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, len(joined), 5))
    for part in np.split(joined, cuts):
        samples.append(decoder.push(part))
    samples.append(decoder.flush())
    assert np.array_equal(np.concatenate(samples)[: len(speech)], codec.decode(encoded)[0])


def test_live_blocks_of_one_frame_differ_in_few_tokens(
    codec: NeuralAudioCodec, speech: Signal, encoded: Encoded
) -> None:
    live = StreamEncoder(codec.networks, block=1)
    tokens = np.concatenate([live.push(speech), live.flush()])
    assert (encoded.tokens[0] != tokens.T).mean() < 1e-3


def test_delay_is_what_is_stated(codec: NeuralAudioCodec) -> None:
    assert codec.delay == pytest.approx(0.040)
    encoder, decoder = StreamEncoder(codec.networks, block=1), StreamDecoder(codec.networks, block=1)
    rng, pushed, got = np.random.default_rng(0), 0, 0
    for _ in range(200):
        chunk = rng.standard_normal(37).astype(np.float32) * 0.01
        pushed += len(chunk)
        got += len(decoder.push(encoder.push(chunk)))
        assert pushed - got < round(codec.delay * codec.sample_rate)


def test_nothing_looks_further_ahead_than_the_delay(small_model: AudioModel) -> None:
    x = torch.randn(1, 480 * 12)
    changed = x.clone()
    changed[:, 480 * 8 :] += 1.0
    with torch.inference_mode():
        a, tokens_a, _ = small_model(x, torch.tensor([4]))
        b, tokens_b, _ = small_model(changed, torch.tensor([4]))
    assert torch.equal(tokens_a[:, :8], tokens_b[:, :8])
    assert torch.allclose(a[:, : 480 * 7], b[:, : 480 * 7], atol=1e-5)
    assert not torch.allclose(a[:, 480 * 8 :], b[:, 480 * 8 :], atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 44100, 48000, 96000])
@pytest.mark.parametrize("length", [1, 7, 479, 24001, 100003])
def test_rate_and_exact_length_come_back(
    codec: NeuralAudioCodec, speech: Signal, rate: int, length: int
) -> None:
    encoded = codec.from_bytes(codec.to_bytes(codec.encode(np.resize(speech, length), rate, stages=3)))
    assert encoded.sample_rate == rate
    assert codec.decode(encoded).shape == (1, length)


def test_nothing_in_nothing_out(codec: NeuralAudioCodec) -> None:
    encoded = codec.from_bytes(codec.to_bytes(codec.encode(np.zeros((2, 0), np.float32), 44100)))
    assert codec.decode(encoded).shape == (2, 0)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_channels_are_kept_apart(codec: NeuralAudioCodec, speech: Signal, channels: int) -> None:
    audio = np.zeros((channels, 48000), np.float32)
    audio[channels - 1] = speech[:48000]
    encoded = codec.encode(audio)
    assert encoded.tokens.shape == (channels, codec.stages, 101)
    back = codec.decode(encoded)
    energy = np.square(back).sum(1)
    assert energy.argmax() == channels - 1
    if channels != 2:
        assert (energy[: channels - 1] < 1e-3 * energy[channels - 1]).all()


@pytest.mark.parametrize("kbps", [1.0, 1.5, 3.0, 6.0, 9.0])
def test_the_file_is_within_the_asked_bitrate(codec: NeuralAudioCodec, speech: Signal, kbps: float) -> None:
    encoded = codec.encode(np.tile(speech, 4), kbps=kbps)
    size = len(codec.to_bytes(encoded))
    taken = size * 8 / 1000 / encoded.seconds
    assert taken <= kbps
    assert taken > 0.97 * kbps or encoded.tokens.shape[1] == codec.stages


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("prior", [True, False])
def test_what_is_left_of_a_bitrate_pays_for_a_stage_in_part_of_the_frames(
    codec: NeuralAudioCodec, speech: Signal, channels: int, prior: bool
) -> None:
    codec = codec if prior else codec.without_prior()
    x = np.stack([np.roll(np.tile(speech, 2), 9000 * c) * (1 - 0.2 * c) for c in range(channels)])
    encoded = codec.encode(x, kbps=2.7 * channels)
    stages = encoded.tokens.shape[1]
    assert encoded.kept is not None
    assert set(encoded.kept.ravel()) == {stages - 1, stages}
    data = codec.to_bytes(encoded)
    back = codec.from_bytes(data)
    assert back.kept is not None
    assert np.array_equal(back.kept, encoded.kept)
    there = np.arange(stages)[None, :, None] < encoded.kept[:, None]
    assert np.array_equal(back.tokens[there], encoded.tokens[there])
    assert codec.to_bytes(back) == data
    assert np.array_equal(codec.decode(back), codec.decode(encoded))
    # Fewer stages of it, and other packets, are files too.
    fewer = codec.from_bytes(codec.to_bytes(codec.limit(back, stages=stages - 1)))
    assert fewer.kept is None
    assert np.array_equal(fewer.tokens, encoded.tokens[:, : stages - 1])
    moved = codec.from_bytes(codec.to_bytes(back, packet_seconds=0.7))
    assert moved.kept is not None
    assert np.array_equal(moved.kept, encoded.kept)
    assert np.array_equal(codec.decode(moved), codec.decode(encoded))


def test_packets_may_have_different_numbers_of_layers(codec: NeuralAudioCodec, speech: Signal) -> None:
    encoded = codec.encode(np.tile(speech, 3))
    data = codec.to_bytes(encoded, 2.0)
    reader, file = Reader(io.BytesIO(data)), io.BytesIO()
    writer = Writer(file, reader.header)
    for i, packet in enumerate(reader):
        writer.write(packet.peel(8 - 3 * i))
    writer.finish()
    mixed = codec.from_bytes(file.getvalue())
    assert mixed.kept is not None
    assert mixed.kept[0, [0, 150, 250]].tolist() == [24, 15, 6]
    again = codec.from_bytes(codec.to_bytes(mixed))
    assert np.array_equal(codec.decode(again), codec.decode(mixed))


def test_overhead_and_coder_loss_at_6_kbps(codec: NeuralAudioCodec, speech: Signal) -> None:
    encoded = codec.encode(np.tile(speech, 10), kbps=6)
    found = file_stats(Reader(io.BytesIO(codec.to_bytes(encoded))))
    assert found.overhead <= 0.03 * found.total
    packets = codec.from_bytes(codec.to_bytes(encoded)).split(codec.bitstream.packet_frames())
    ideal = sum(code_lengths(codec.coder, packet).sum() for packet in packets)
    assert sum(found.layers) * 8 <= 1.005 * ideal
    fixed = encoded.tokens.size * codec.model.quantizer.bits
    assert ideal < fixed


def test_peeled_layers_decode_like_fewer_stages(codec: NeuralAudioCodec, encoded: Encoded) -> None:
    data = codec.to_bytes(encoded)
    reader = Reader(io.BytesIO(data))
    packets = [packet.peel(2) for packet in reader]
    assert all(len(packet.layers) == 2 for packet in packets)
    part = np.concatenate([p.tokens for p in codec.bitstream.read(Reader(io.BytesIO(data)), 6)])
    assert np.array_equal(part.T, encoded.tokens[0][:6])


@pytest.mark.parametrize("seconds", [0.02, 0.25, 1, 20])
def test_any_packet_length(codec: NeuralAudioCodec, encoded: Encoded, seconds: float) -> None:
    back = codec.from_bytes(codec.to_bytes(encoded, seconds))
    assert np.array_equal(back.tokens, encoded.tokens)


def test_a_lost_packet_is_silence_and_the_rest_is_there(codec: NeuralAudioCodec, speech: Signal) -> None:
    encoded = codec.encode(np.tile(speech, 3))
    data = bytearray(codec.to_bytes(encoded, 2.0))
    packets = list(Reader(io.BytesIO(bytes(data))))
    data[packets[1].offset + 100] ^= 1
    whole = codec.decode(encoded)[0]
    with pytest.raises(BitstreamError, match="--keep-going"):
        codec.from_bytes(bytes(data))
    reader = Reader(io.BytesIO(bytes(data)), keep_going=True)
    blocks = list(codec.decode_blocks(codec.bitstream.read(reader, keep_going=True), reader.header))
    back = np.concatenate(blocks, axis=1)[0]
    assert len(back) == len(whole)
    assert np.array_equal(back[:47500], whole[:47500])
    assert (back[48000:95500] == 0).all()
    tail = slice(5 * 24000, None)
    assert si_sdr(torch.from_numpy(back[tail]), torch.from_numpy(whole[tail])) > 10


def test_headers_of_the_shipped_model_are_short(codec: NeuralAudioCodec, encoded: Encoded) -> None:
    """Its hashes stand in the dictionary of `fsqcodec.bitstream.header_dictionary`: new weights, new entry in front of the others."""
    for rate, channels in ((8000, 1), (48000, 1), (44100, 2)):
        assert (
            len(replace(codec.bitstream.header(encoded, 250), sample_rate=rate, channels=channels).pack())
            <= 24
        )


def test_another_model_is_refused_by_its_hash(
    codec: NeuralAudioCodec, encoded: Encoded, tmp_path: Path
) -> None:
    model, tables, _ = audio_weights("speech-24k")
    with torch.no_grad():
        model.encoder.out.bias[0] += 0.5
    save_model(tmp_path / "other.safetensors", model, {}, tables)
    with pytest.raises(ModelError, match="made with model speech-24k"):
        fsqcodec.load(tmp_path / "other.safetensors").from_bytes(codec.to_bytes(encoded))


def test_another_decoder_reads_the_same_files(
    codec: NeuralAudioCodec, encoded: Encoded, tmp_path: Path
) -> None:
    model, tables, prior = audio_weights("speech-24k")
    with torch.no_grad():
        model.decoder.out.bias += 0.01
    save_model(tmp_path / "tuned.safetensors", model, {}, tables, prior)
    tuned = fsqcodec.load(tmp_path / "tuned.safetensors")
    assert np.array_equal(tuned.from_bytes(codec.to_bytes(encoded)).tokens, encoded.tokens)


def test_matrices_take_8_bits_where_tokens_do_not_change(tmp_path: Path) -> None:
    model = AudioModel(AudioConfig(groups=3, stages=4))
    found = {}
    for name in ("trained", "rounded", "again"):
        path = tmp_path / f"{name}.safetensors"
        save_model(path, model, {})
        loaded = audio_weights(path).model
        assert token_hash(loaded) == token_hash(model), name
        found[name] = path.stat().st_size
        if name == "rounded":
            model = loaded
        else:
            round_matrices(model.encoder)
    assert found["rounded"] < 0.7 * found["trained"]
    assert found["again"] == found["rounded"]


def _spacing(y: Tensor, low: float, high: float) -> float:
    """Hz between the lines of y (N,) at 24 kHz from `low` to `high` Hz; 0 where there are none."""
    hertz = torch.linspace(0, 12000, len(y) // 2 + 1)
    inside = (hertz > low) & (hertz < high)
    power = torch.fft.rfft(y * torch.hann_window(len(y))).abs().square()[inside]
    spacings = torch.arange(60.0, 400.0, 0.5)
    depth = (power * torch.exp(2j * torch.pi * hertz[inside] / spacings[:, None])).sum(1).abs() / power.sum()
    wide = spacings[depth > 0.9 * depth.max()].max()  # a third of the spacing fits as well
    depth[spacings < 0.9 * wide] = 0
    return float(spacings[depth.argmax()]) if depth.max() > 0.5 else 0.0


@pytest.mark.parametrize("pitch", [0.0, 113.0, 187.0, 290.0])
def test_what_is_not_followed_has_the_pitch_below_it_and_no_lines_of_the_hop(pitch: float) -> None:
    window, hop, stride, channels, width = 720, 240, 2, 72, 8
    bins = window // 2 + 1
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(-4, 5, (1, 60, channels), generator=generator) / 4.5
    time = torch.arange(120 * hop) / 24000
    low = torch.randn(len(time), generator=generator)
    if pitch:
        number = torch.arange(1, 1 + int(900 / pitch))[:, None]
        low = torch.sin(2 * torch.pi * pitch * number * time + number).sum(0)
    spectrum = Analysis(window, hop)(0.1 * low[None])
    pulse = torch.stack([torch.full((bins,), -1.0), 1.0 - 2 * (torch.arange(bins) % 2), torch.zeros(bins)])
    above = torch.arange(bins) > bins // 10  # where every frame has the same pulse: lines at the hop rate
    spectrum = torch.where(above.repeat(3), pulse.flatten(), spectrum)
    excitation = Excitation(1200, 24000, window, stride, channels, width)
    with torch.no_grad():
        excitation.shares.bias[bins:] = 6.0 if pitch else -6.0
        filled = excitation(spectrum, torch.zeros(1, 120, width), values)
        plain, better = (Synthesis(window, hop)(s)[0, 8 * hop :] for s in (spectrum, filled))
    assert _spacing(plain, 1500, 5000) == pytest.approx(100, abs=1)
    assert _spacing(better, 1500, 5000) == pytest.approx(pitch, abs=2)
    assert _spacing(better, 6000, 11000) != pytest.approx(100, abs=2)


def test_an_excitation_changes_no_token_and_no_followed_waveform(encoded: Encoded) -> None:
    model = audio_weights("speech-24k").model
    other = AudioModel(replace(model.config, excitation=0.0 if model.config.excitation else 1200.0))
    other.load_state_dict(model.state_dict(), strict=False)
    assert token_hash(other) == token_hash(model)
    block = torch.from_numpy(encoded.tokens[:, :, :50].astype(np.int64)).transpose(1, 2)
    with torch.no_grad():
        low = [np.fft.rfft(m.decode(block)[0].numpy())[: 500 * 49 // 50] for m in (model, other)]
    assert np.abs(low[0] - low[1]).max() < 0.05 * np.abs(low[0]).max()


def test_model_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="shipped are"):
        fsqcodec.load("no-such-model")
    (tmp_path / "x.safetensors").write_bytes(b"rubbish" * 100)
    with pytest.raises(ModelError, match="not a model file"):
        fsqcodec.load(tmp_path / "x.safetensors")
    config = AudioConfig(groups=3, stages=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AudioConfig, "to_dict", lambda self: {**asdict(self), "scatter": 5000})
        save_model(tmp_path / "older.safetensors", AudioModel(config), {})
    with pytest.raises(ModelError, match="another version of fsqcodec"):
        fsqcodec.load(tmp_path / "older.safetensors")
    save_model(tmp_path / "bare.safetensors", AudioModel(config), {})
    with pytest.raises(ModelError, match="no frequency tables"):
        fsqcodec.load(tmp_path / "bare.safetensors")


def test_the_model_is_small_enough() -> None:
    model = audio_weights("speech-24k").model
    assert sum(p.numel() for p in model.parameters()) <= 20e6
    assert token_hash(model) == token_hash(audio_weights("speech-24k").model)


def test_processes_with_one_and_two_threads_write_the_same_file(codec: NeuralAudioCodec) -> None:
    code = (
        "import sys, torch, fsqcodec, hashlib; torch.set_num_threads(int(sys.argv[1]));"
        "from fsqcodec.media.audio import AudioReader; c = fsqcodec.load();"
        "x = AudioReader(sys.argv[2], 24000).read();"
        "print(hashlib.sha256(c.to_bytes(c.encode(x))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, threads, str(SPEECH)], capture_output=True, text=True, check=True
        ).stdout
        for threads in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == len(hashlib.sha256().hexdigest())


@settings(max_examples=25)
@given(st.data())
def test_damaged_files_never_end_in_a_traceback(
    codec: NeuralAudioCodec, encoded: Encoded, data: st.DataObject
) -> None:
    intact = codec.to_bytes(codec.limit(encoded, stages=4))
    damaged = bytearray(intact)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    try:
        reader = Reader(io.BytesIO(bytes(damaged)), "x.fsq", keep_going=True)
        codec.bitstream.check(reader)
        packets = list(codec.bitstream.read(reader, keep_going=True))
        assert all(p.tokens.max(initial=0) < codec.model.quantizer.codebook_size for p in packets)
        blocks = codec.decode_blocks(packets, reader.header)
        assert sum(block.shape[1] for block in blocks) <= (reader.header.samples or 0)
    except (BitstreamError, ModelError):
        assert bytes(damaged[:80]) != intact[:80]  # only a header is past help


def test_wrong_arguments_say_what_is_wrong(codec: NeuralAudioCodec, encoded: Encoded) -> None:
    with pytest.raises(ValueError, match="positive"):
        codec.limit(encoded, kbps=0)
    with pytest.raises(ValueError, match="unknown model setting"):
        AudioConfig.from_dict({"widht": 3})
    with pytest.raises(ValueError, match="three hops"):
        AudioConfig.from_dict({"window": 960})


def test_blocks_are_a_second(codec: NeuralAudioCodec) -> None:
    assert codec.frame_rate == BLOCK == 50
