"""The search for better tokens: what it is for, what it keeps, and where it ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from fsqcodec.audio.annealing import Search
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.rdo import EFFORT, Effort
from fsqcodec.cli.main import app
from fsqcodec.errors import ModelError
from fsqcodec.losses.low_frequency import Rumble
from fsqcodec.losses.reconstruction import ReconstructionLoss
from fsqcodec.visual.sound import read_sound
from helpers import SPEECH
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner


@given(stages=st.integers(1, 24), seed=st.integers(0, 99))
def test_the_search_begins_where_the_encoder_ends(codec: NeuralAudioCodec, stages: int, seed: int) -> None:
    assert codec.prior
    latents = (
        torch.randn(7, codec.model.quantizer.channels, generator=torch.Generator().manual_seed(seed)) * 2
    )
    kept = torch.full((7,), stages)
    search = Search(codec.model, codec.prior, kept, torch.Generator())
    expected = codec.model.quantizer.encode(latents)[:, :stages]
    assert torch.equal(search.tokens(search.positions(latents)), expected)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_sound_gets_nearer_within_the_same_bitrate(
    codec: NeuralAudioCodec, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch, bfloat16: bool
) -> None:
    monkeypatch.setattr("fsqcodec.audio.annealing.has_bfloat16", lambda: bfloat16)
    x = speech[: 2 * 24000]
    wanted = torch.from_numpy(x.copy()).view(2, -1)
    terms = ReconstructionLoss(24000)
    heard = []
    for effort in (0, 16):
        encoded = codec.encode(x, kbps=6, effort=effort)
        assert len(codec.to_bytes(encoded)) <= 6 * 125 * 2
        back = torch.from_numpy(codec.decode(encoded)).view(2, -1)
        heard.append({name: float(term.mean()) for name, term in terms(back, wanted).items()})
    plain, searched = heard
    assert searched["disturbance"] < 0.95 * plain["disturbance"]
    assert searched["similarity"] < 0.95 * plain["similarity"]
    assert searched["mel"] < plain["mel"]


def test_the_search_adds_no_rumble(codec: NeuralAudioCodec, speech: np.ndarray) -> None:
    x = speech[: 2 * 24000]
    rumble, wanted = Rumble(24000), torch.from_numpy(x.copy()).view(2, -1)
    plain, searched = (
        float(rumble(torch.from_numpy(codec.decode(codec.encode(x, kbps=3, effort=effort))).view(2, -1), wanted).mean())
        for effort in (0, 8)
    )  # fmt: skip
    assert searched < plain / 10  # 0.8 of it after a search that does not ask for it


def test_a_search_is_repeatable_and_leaves_the_model_alone(
    codec: NeuralAudioCodec, speech: np.ndarray
) -> None:
    x = np.stack([speech[:20000], -0.5 * speech[5000:25000]])
    first, second = (codec.encode(x, stages=8, effort=2) for _ in range(2))
    assert np.array_equal(first.tokens, second.tokens)
    assert first.tokens.shape == codec.encode(x, stages=8).tokens.shape
    assert codec.decode(first).shape == x.shape
    assert all(parameter.requires_grad for parameter in codec.model.parameters())
    assert all(parameter.grad is None for parameter in codec.model.parameters())


@pytest.mark.parametrize("samples", [0, 1, 500, 3000])
def test_sounds_of_any_length_are_searched(codec: NeuralAudioCodec, speech: np.ndarray, samples: int) -> None:
    encoded = codec.encode(speech[:samples], kbps=6, effort=1)
    assert codec.decode(encoded).shape == (1, samples)


def test_packets_of_a_searched_sound_decode_by_themselves(
    codec: NeuralAudioCodec, speech: np.ndarray
) -> None:
    encoded = codec.encode(speech[:30000], effort=2)
    again = codec.from_bytes(codec.to_bytes(encoded, packet_seconds=0.3))
    assert np.array_equal(again.tokens, encoded.tokens)


def test_without_a_prior_there_is_no_search(codec: NeuralAudioCodec, speech: np.ndarray) -> None:
    bare = NeuralAudioCodec("bare", codec.model, codec.tables, codec.model_hash, codec.metadata)
    assert Effort(None).resolve(1.0, bare.prior, "bare") == 0
    with pytest.raises(ModelError, match="bare: has no prior"):
        bare.encode(speech[:9000], effort=1)


def test_long_sounds_are_not_searched_unasked(codec: NeuralAudioCodec) -> None:
    def steps(seconds: float) -> int:
        return Effort(None).resolve(seconds, codec.prior, codec.name)

    assert steps(0.1) == steps(30.0) == EFFORT
    assert steps(45.0) * 45 <= steps(60.0) * 60 == EFFORT * 30
    assert steps(60.1) == 0


def test_short_sounds_are_searched_where_nobody_says_how(codec: NeuralAudioCodec, speech: np.ndarray) -> None:
    x = speech[:12000]
    asked, unasked = codec.encode(x, kbps=3, effort=EFFORT), codec.encode(x, kbps=3, effort=None)
    assert np.array_equal(asked.tokens, unasked.tokens)
    assert not np.array_equal(asked.tokens, codec.encode(x, kbps=3).tokens)


def test_a_videos_sound_is_searched_within_its_bitrate(codec: NeuralAudioCodec) -> None:
    plain, searched = (read_sound(SPEECH, codec, 3.0, effort) for effort in (0, 1))
    assert plain
    assert searched
    assert plain.tokens.shape[2] == searched.tokens.shape[2]
    assert not np.array_equal(plain.tokens[:, :4], searched.tokens[:, :4])
    for encoded in (plain, searched):
        assert 0.95 < len(codec.to_bytes(encoded)) / (3.0 * 125 * encoded.seconds) <= 1


def test_the_command_searches_as_it_is_told(
    codec: NeuralAudioCodec, speech: np.ndarray, tmp_path: Path
) -> None:
    def tokens(*options: str, source: Path = SPEECH) -> np.ndarray:
        target = tmp_path / "out.fsq"
        result = CliRunner().invoke(app, ["encode", str(source), str(target), "-y", *options])
        assert result.exit_code == 0, result.output
        found: np.ndarray = codec.from_bytes(target.read_bytes()).tokens
        return found

    assert not np.array_equal(tokens("--effort", "1"), tokens("--effort", "0"))
    assert np.array_equal(tokens("--effort", "0"), codec.encode_media(SPEECH).tokens)
    soundfile.write(tmp_path / "short.wav", speech[:7200], 24000, subtype="FLOAT")
    asked, unasked = (
        tokens(*options, source=tmp_path / "short.wav") for options in (("--effort", f"{EFFORT}"), ())
    )
    assert np.array_equal(asked, unasked)
    wrong = CliRunner().invoke(app, ["encode", str(SPEECH), str(tmp_path / "no.fsq"), "--effort", "much"])
    assert wrong.exit_code == 2
    assert not (tmp_path / "no.fsq").exists()
