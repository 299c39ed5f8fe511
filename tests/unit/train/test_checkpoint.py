"""Checkpoints come back as they were, those of earlier versions too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fsqcodec.errors import ConfigError
from fsqcodec.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

WEIGHTS = {"weight": torch.arange(3.0)}
ADAMW = {"state": {}, "param_groups": []}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = Checkpoint(WEIGHTS, {"prior": WEIGHTS}, [ADAMW], WEIGHTS, {"scales": {"near": 8}}, 7, 1, 2.5)
    write_checkpoint(tmp_path / "last.pt", written)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    read = read_checkpoint(tmp_path / "last.pt")
    assert torch.equal(read.model["weight"], WEIGHTS["weight"])
    assert read.auxiliary.keys() == {"prior"}
    assert (read.task, read.step, read.skipped, read.seconds) == ({"scales": {"near": 8}}, 7, 1, 2.5)


def test_runs_of_codecs_and_of_priors_from_version_0_1_are_read(tmp_path: Path) -> None:
    codec = {"model": WEIGHTS, "optimizers": [ADAMW], "beside": {"prior": WEIGHTS}, "ema": WEIGHTS}
    torch.save({**codec, "step": 7, "skipped": 1, "seconds": 2.5}, tmp_path / "codec.pt")
    read = read_checkpoint(tmp_path / "codec.pt")
    assert (read.auxiliary.keys(), read.task, read.step) == ({"prior"}, {}, 7)
    prior = {"network": WEIGHTS, "optimizer": ADAMW, "scales": {"near": 8}, "step": 7, "seconds": 2.5}
    torch.save(prior, tmp_path / "prior.pt")
    read = read_checkpoint(tmp_path / "prior.pt")
    assert torch.equal(read.model["weight"], WEIGHTS["weight"])
    assert (read.optimizers, read.ema, read.task) == ([ADAMW], None, {"scales": {"near": 8}})


def test_a_checkpoint_that_is_too_old_says_how_to_go_on(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS, "optimizer": ADAMW, "step": 7}, tmp_path / "last.pt")
    with pytest.raises(ConfigError, match=r"init=.*model\.safetensors"):
        read_checkpoint(tmp_path / "last.pt")
