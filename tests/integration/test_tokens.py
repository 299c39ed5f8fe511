"""`fsqcodec tokens`: sound, files and token arrays."""

from __future__ import annotations

import json
from pathlib import Path

import fsqcodec
import numpy as np
import pytest
import soundfile
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.tokens import Encoded
from fsqcodec.cli.main import main
from helpers import SPEECH


def test_tokens_go_to_a_file_and_back(codec: NeuralAudioCodec, encoded: Encoded, tmp_path: Path) -> None:
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
    codec: NeuralAudioCodec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
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
