"""`fsqcodec corpus`: shards of tokens, killed and resumed, by several processes, and back to sound."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import webdataset
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.errors import ConfigError, ModelError
from fsqcodec.train.build import build_trainer
from fsqcodec.train.config.audio import DataConfig
from fsqcodec.train.config.base import Source
from fsqcodec.train.config.prior import PriorConfig
from fsqcodec.train.data import token_shards as corpus
from fsqcodec.train.data.audio import Crops
from fsqcodec.train.data.manifest import list_items
from helpers import SPEECH, call


def _write_corpus(folder: Path, count: int) -> list[str]:
    samples, rate = soundfile.read(str(SPEECH))
    keys = []
    for i in range(count):
        path = folder / f"voice{i % 3}" / f"a.{i:03}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(str(path), samples[i * 500 : i * 500 + rate // 2], rate)
        keys.append(f"{path.parent.name}/{path.name}")
    return keys


def _keys(shards: Path) -> list[str]:
    return [item.key for shard in corpus.shards_of(shards) for item in corpus.read_shard(shard)]


def test_tokens_of_a_folder_are_those_of_encode(codec: NeuralAudioCodec, tmp_path: Path) -> None:
    keys = _write_corpus(tmp_path / "in", 5)
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF no sound")
    done = call("corpus", "tokenize", tmp_path / "in", "--out", tmp_path / "out", "--per-shard", 2)
    assert b"broken.wav" in done.stderr
    assert sorted(_keys(tmp_path / "out")) == sorted(keys)
    first = next(corpus.read_shard(corpus.shards_of(tmp_path / "out")[1]))
    assert np.array_equal(first.encoded.tokens, codec.encode_media(tmp_path / "in" / first.key).tokens)
    stats = json.loads(call("corpus", "stats", tmp_path / "out", "--json").stdout)
    assert stats["items"] == 5
    assert stats["hours"] == pytest.approx(5 * 0.5 / 3600)
    assert [failure["key"] for failure in stats["unreadable"]] == ["broken.wav"]
    assert 0 < stats["kbps_entropy"] < stats["kbps_fixed"]


def test_shards_are_webdataset_ones_and_decode(codec: NeuralAudioCodec, tmp_path: Path) -> None:
    keys = _write_corpus(tmp_path / "in", 3)
    call("corpus", "tokenize", tmp_path / "in", "--out", tmp_path / "out", "--stages", 6)
    urls = str(tmp_path / "out" / "shard-000000.tar")
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [sample["tokens.npy"].shape[:2] for sample in samples] == [(1, 6)] * 3
    assert sorted(sample["json"]["key"] for sample in samples) == sorted(keys)
    call("corpus", "decode", tmp_path / "out", "--out", tmp_path / "back", "--suffix", ".flac")
    for key in keys:
        original, back = tmp_path / "in" / key, (tmp_path / "back" / key).with_suffix(".flac")
        assert soundfile.info(str(back)).frames == soundfile.info(str(original)).frames


def test_media_in_shards_and_lists(codec: NeuralAudioCodec, tmp_path: Path) -> None:
    keys = _write_corpus(tmp_path / "in", 4)
    with tarfile.open(tmp_path / "raw.tar", "w") as tar:
        for key in keys:
            tar.add(tmp_path / "in" / key, key)
        note = tarfile.TarInfo("voice0/a.000.txt")
        note.size = 5
        tar.addfile(note, io.BytesIO(b"hello"))
    (tmp_path / "list.txt").write_text("".join(f"in/{key}\n" for key in keys[:2]))
    assert [item.key for item in list_items(str(tmp_path / "raw.tar"))] == keys
    assert len(list_items(str(tmp_path / "list.txt"))) == 2
    for name in ("raw.tar", "list.txt"):
        call("corpus", "tokenize", tmp_path / name, "--out", tmp_path / f"{name}-out")
    packed, plain = (
        {item.key.removeprefix("in/"): item.encoded.tokens for shard in corpus.shards_of(tmp_path / f"{name}-out")
         for item in corpus.read_shard(shard)} for name in ("raw.tar", "list.txt")
    )  # fmt: skip
    assert set(packed) == set(keys)
    assert all(np.array_equal(packed[key], plain[key]) for key in keys[:2])


@pytest.mark.xdist_group("machine")
def test_killed_at_any_moment_it_goes_on(codec: NeuralAudioCodec, tmp_path: Path) -> None:
    keys = _write_corpus(tmp_path / "in", 24)
    command = [sys.executable, "-m", "fsqcodec.cli.main", "corpus", "tokenize", str(tmp_path / "in"),
               "--out", str(tmp_path / "out"), "--per-shard", "3"]  # fmt: skip
    for shards in (1, 4):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while len(list((tmp_path / "out").glob("*.tar"))) < shards and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(list((tmp_path / "out").glob("*.tar"))) >= 4
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        *command[1:],
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, check=True, capture_output=True, env=environment, timeout=300)
    now = [int(count) for count in re.findall(rb"; (\d+) shards now", done.stderr)]
    assert len(now) == 2
    assert sum(now) == 8 - len(made)
    assert Counter(_keys(tmp_path / "out")) == Counter(keys)
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())
    assert not list((tmp_path / "out").glob("*.part"))


def test_other_sources_need_another_folder(codec: NeuralAudioCodec, tmp_path: Path) -> None:
    _write_corpus(tmp_path / "in", 2)
    call("corpus", "tokenize", tmp_path / "in", "--out", tmp_path / "out")
    _write_corpus(tmp_path / "in", 3)
    done = call("corpus", "tokenize", tmp_path / "in", "--out", tmp_path / "out", code=1)
    assert b"choose another --out" in done.stderr
    assert b"no token shards" in call("corpus", "stats", tmp_path / "in", code=1).stderr
    (tmp_path / "twice.txt").write_text("in/voice0/a.000.wav\nin/voice0/a.000.wav\n")
    with pytest.raises(ConfigError, match="tokenize them apart"):
        corpus.plan([str(tmp_path / "twice.txt")], 2)


def test_training_reads_shards_of_media_and_of_tokens(codec: NeuralAudioCodec, tmp_path: Path) -> None:
    keys = _write_corpus(tmp_path / "in", 6)
    with tarfile.open(tmp_path / "raw.tar", "w") as tar:
        for key in sorted(keys):
            tar.add(tmp_path / "in" / key, key)
    packed, plain = (
        Crops(
            DataConfig([Source(str(tmp_path / name))], cache=str(tmp_path / "cache")), 24000, 4800, 4, 0.5, 7
        )
        for name in ("raw.tar", "in")
    )
    assert packed.seconds == plain.seconds
    for i in range(5):
        assert torch.equal(packed[i]["audio"], plain[i]["audio"])
    call("corpus", "tokenize", tmp_path / "raw.tar", "--out", tmp_path / "shards", "--per-shard", 2)
    config = PriorConfig(
        out=str(tmp_path / "run"),
        prior_of="speech-24k",
        data=DataConfig([]),
        shards=str(tmp_path / "shards"),
        frames=8,
        steps=2,
        batch=2,
        mixed_precision="no",
    )
    with pytest.raises(ConfigError, match="nowhere"):  # before the work, not after it
        build_trainer(replace(config, validate=str(tmp_path / "nowhere")), lambda _: None)
    trainer = build_trainer(config, lambda _: None)
    tokens = trainer.task.tokens
    assert tokens.shape == (6 * 3, 8, codec.stages)
    expected = codec.encode_media(tmp_path / "in" / sorted(keys)[0]).tokens[0, :, :8].T
    assert any(np.array_equal(piece, expected) for piece in tokens.numpy())
    items = [trainer.task.data[i]["digits"] for i in range(2)]
    assert np.isfinite(trainer.train_step({"digits": torch.stack(items)})["bits"])
    call("corpus", "tokenize", tmp_path / "raw.tar", "--out", tmp_path / "few", "--stages", 3)
    with pytest.raises(ModelError, match="not all stages"):
        build_trainer(replace(config, shards=str(tmp_path / "few")), lambda _: None)
