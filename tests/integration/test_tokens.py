"""Token arrays: arrangements that lose nothing, and files of them."""

from __future__ import annotations

import json
from pathlib import Path

import fsqcodec
import numpy as np
import pytest
import soundfile
from fsqcodec import patterns
from fsqcodec.audio.codec import Codec
from fsqcodec.audio.tokens import Encoded
from fsqcodec.cli.main import main
from helpers import SPEECH
from hypothesis import given
from hypothesis import strategies as st

SIZE = 729


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(0, 20)))
    return np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, SIZE, shape).astype(np.uint16)


@given(arrays())
def test_every_arrangement_is_a_bijection(tokens: np.ndarray) -> None:
    stages, frames = tokens.shape[1:]
    words = patterns.offset(tokens, SIZE)
    assert np.array_equal(patterns.unoffset(words, SIZE), tokens)
    assert all((words[:, k] // SIZE == k).all() for k in range(stages))
    sequence = patterns.interleave(tokens, SIZE)
    assert sequence.shape == (len(tokens), stages * frames)
    assert np.array_equal(sequence[:, :stages], words[:, :, 0] if frames else sequence)
    assert np.array_equal(patterns.deinterleave(sequence, SIZE, stages), tokens)
    moved = patterns.delay(tokens, SIZE)
    assert (moved == SIZE).sum() == len(tokens) * stages * (stages - 1)
    assert np.array_equal(patterns.undelay(moved), tokens)


@given(arrays(), st.one_of(st.none(), st.floats(0, 1)), st.integers(0, 2**32))
def test_masks_hide_what_they_say(tokens: np.ndarray, share: float | None, seed: int) -> None:
    masked, hidden = patterns.mask(tokens, SIZE, np.random.default_rng(seed), share)
    assert np.array_equal(masked == SIZE, hidden)
    assert np.array_equal(patterns.unmask(masked, hidden, tokens), tokens)
    if share is not None:
        assert hidden.sum() == np.ceil(share * tokens.size)


def test_what_is_out_of_place_is_refused() -> None:
    tokens = np.arange(6).reshape(1, 2, 3)
    with pytest.raises(ValueError, match="0 … 4"):
        patterns.offset(tokens, 5)
    with pytest.raises(ValueError, match="0 … 5"):
        patterns.unoffset(tokens[:, ::-1], 6)
    with pytest.raises(ValueError, match="whole frames"):
        patterns.deinterleave(np.zeros((1, 7)), 6, 2)
    with pytest.raises(ValueError, match="too few"):
        patterns.undelay(np.zeros((4, 2)))


def test_tokens_go_to_a_file_and_back(codec: Codec, encoded: Encoded, tmp_path: Path) -> None:
    def run(*arguments: object) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["tokens", *map(str, arguments)])
        assert caught.value.code == 0

    run(SPEECH, tmp_path / "a.npz", "--stages", 8)
    file = np.load(tmp_path / "a.npz")
    facts = json.loads(str(file["facts"]))
    assert file["tokens"].shape == (1, 8, encoded.tokens.shape[2])
    assert facts["codebook_size"] == codec.model.quantizer.codebook_size
    assert facts["model_hash"] == codec.model_hash.hex()
    run(tmp_path / "a.npz", tmp_path / "a.fsq")
    assert np.array_equal(codec.from_bytes((tmp_path / "a.fsq").read_bytes()).tokens, file["tokens"])
    run(tmp_path / "a.fsq", tmp_path / "b.npz")
    assert np.array_equal(np.load(tmp_path / "b.npz")["tokens"], file["tokens"])
    run(tmp_path / "a.npz", tmp_path / "a.wav")
    assert soundfile.info(tmp_path / "a.wav").frames == soundfile.info(SPEECH).frames


def test_token_files_of_others_are_refused(
    codec: Codec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    facts = {
        "model": "x",
        "model_hash": "00" * 8,
        "sample_rate": 1,
        "samples": 1,
        "mid_side": False,
        "tags": {},
    }
    good = np.zeros((1, 2, 3), np.int64)
    for tokens, told, says in (
        (good, facts, "made with model x"),
        (good + 10**6, facts, "outside"),
        (good[0], facts, "not a file of tokens"),
        (good, {}, "not a file of tokens"),
    ):
        np.savez(tmp_path / "x.npz", tokens=tokens, facts=np.array(json.dumps(told)))
        with pytest.raises(SystemExit) as caught:
            main(["tokens", str(tmp_path / "x.npz"), str(tmp_path / "x.wav")])
        assert caught.value.code == 1
        error = capfd.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    (tmp_path / "x.npz").write_bytes(b"PK rubbish")
    with pytest.raises(SystemExit):
        main(["tokens", str(tmp_path / "x.npz"), str(tmp_path / "x.wav")])
    assert "not a file of tokens" in capfd.readouterr().err
    assert fsqcodec.BitstreamError
