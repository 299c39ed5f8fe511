"""Training: configuration, data, resume, several processes."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import fsqcodec
import numpy as np
import psutil
import pytest
import torch
from fsqcodec.errors import ConfigError
from fsqcodec.train.build import build_trainer, load_config
from fsqcodec.train.config.audio import DataConfig
from fsqcodec.train.config.base import Source
from fsqcodec.train.data.audio import Crops
from fsqcodec.train.optim.muon import hidden_matrices
from fsqcodec.train.rate import code_lengths
from fsqcodec.train.trainer import Trainer
from helpers import SPEECH, write_recipe


def _losses(folder: Path, name: str = "loss") -> dict[int, float]:
    with (folder / "log.csv").open() as table:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(table)}


def _trainer(recipe: Path, *settings: str) -> Trainer:
    return build_trainer(load_config(recipe, list(settings)), lambda _: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run wrote that nothing disturbed."""
    folder = tmp_path_factory.mktemp("run")
    _trainer(write_recipe(folder)).run()
    return folder / "run"


@pytest.mark.xdist_group("machine")
def test_a_run_learns_and_its_model_works(run: Path) -> None:
    losses = _losses(run)
    assert np.mean([losses[s] for s in range(26, 31)]) < 0.6 * np.mean([losses[s] for s in range(1, 4)])
    codec = fsqcodec.load(run / "model.safetensors")
    assert codec.metadata["train"]["steps"] == 30
    audio = np.zeros(24000, np.float32)
    assert codec.decode(codec.from_bytes(codec.to_bytes(codec.encode(audio)))).shape == (1, 24000)


@pytest.mark.xdist_group("machine")
def test_resume_goes_on_as_if_it_had_not_stopped(run: Path, recipe: Path, tmp_path: Path) -> None:
    trainer = _trainer(recipe, f"out={tmp_path / 'parts'}", "save_minutes=0.0001")
    original = trainer.train_step

    def stop_at_7(batch: dict[str, torch.Tensor]) -> dict[str, float]:
        if trainer.step == 7:
            raise KeyboardInterrupt  # as abrupt as a crash: what counts is the last checkpoint
        return original(batch)

    trainer.train_step = stop_at_7  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = _trainer(recipe, f"out={tmp_path / 'parts'}")
    assert again.step == 7
    again.run()
    whole, parts = _losses(run), _losses(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(whole[s] == pytest.approx(parts[s], rel=1e-4, abs=1e-4) for s in whole)
    state = torch.load(tmp_path / "parts" / "last.pt", weights_only=True)
    del state["optimizers"]
    torch.save(state, tmp_path / "parts" / "last.pt")
    with pytest.raises(ConfigError, match="older version"):
        _trainer(recipe, f"out={tmp_path / 'parts'}")


def _two_processes(recipe: Path, *settings: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a training run by two processes without a GPU."""
    launch = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "fsqcodec.cli.main",
    ]
    command = [sys.executable, *launch, "train", str(recipe), *settings]
    return command, {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.xdist_group("machine")
@pytest.mark.parametrize("setting", ["", "loss.features=[0.01, 0.01]"])
def test_two_processes_learn_like_one_with_the_same_global_batch(
    run: Path, recipe: Path, tmp_path: Path, setting: str
) -> None:
    settings = [setting] if setting else []
    if setting:
        _trainer(recipe, setting).run()
        run = tmp_path / "run"
    command, environment = _two_processes(recipe, f"out={tmp_path / 'two'}", *settings)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = _losses(run), _losses(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(one[s] == pytest.approx(two[s], rel=0.02, abs=0.02) for s in one)
    metadata = fsqcodec.load(tmp_path / "two" / "model.safetensors").metadata
    assert metadata["train"]["processes"] == 2


@pytest.mark.xdist_group("machine")
def test_two_processes_stop_together_when_one_is_asked_and_resume(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command, environment = _two_processes(recipe, "optim.steps=1000000", "save_minutes=60")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as run:
        try:
            begun = time.monotonic()
            while not (out / "log.csv").exists() or len(_losses(out)) < 3:
                assert run.poll() is None
                assert time.monotonic() - begun < 200
                time.sleep(0.1)
            children = psutil.Process(run.pid).children()
            next(child for child in children if child.environ().get("RANK") == "1").terminate()
            printed, _ = run.communicate(timeout=60)
        finally:
            run.terminate()
    assert run.returncode == 0, printed.decode()[-2000:]
    stopped = torch.load(out / "last.pt", weights_only=True)["step"]
    assert stopped == max(_losses(out))
    command, environment = _two_processes(recipe, f"optim.steps={stopped + 2}")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert max(_losses(out)) == stopped + 2


@pytest.mark.xdist_group("machine")
def test_a_run_that_is_told_twice_to_stop_still_saves(recipe: Path, tmp_path: Path) -> None:
    """Schedulers tell all processes, and launchers pass it on."""
    script = f"""
import signal
from pathlib import Path
from fsqcodec.train.build import build_trainer, load_config
def tell(step, steps, values):
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
build_trainer(load_config(Path({str(recipe)!r})), print).run(tell)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 1


def test_muon_takes_what_is_trained_in_blocks_and_nothing_else(recipe: Path) -> None:
    for parts, networks in (("all", 2), ("decoder", 1)):
        trainer = _trainer(recipe, f"parts={parts}")
        hidden = hidden_matrices(trainer.task.model)
        assert len(hidden) == networks * 2 * 2  # blocks of one and of the other rate, two matrices each
        adamw, muon = ({id(p) for g in o.param_groups for p in g["params"]} for o in trainer.optimizers)
        assert muon == {id(p) for p in hidden}
        assert adamw == {id(p) for p in trainer.task.model.parameters() if p.requires_grad} - muon


def test_a_step_that_is_not_finite_is_skipped_and_counted(recipe: Path) -> None:
    trainer = _trainer(recipe)
    batch = {k: v[None].expand(4, *v.shape).clone() for k, v in trainer.task.data[0].items()}
    before = {k: v.clone() for k, v in trainer.task.model.state_dict().items()}
    trainer.train_step({**batch, "audio": batch["audio"] * float("nan")})
    assert trainer.skipped == 1
    assert all(torch.equal(v, before[k]) for k, v in trainer.task.model.state_dict().items())
    trainer.train_step(batch)
    assert trainer.skipped == 1
    assert any(not torch.equal(v, before[k]) for k, v in trainer.task.model.state_dict().items())


def test_a_measure_that_changes_the_threads_does_not_slow_training_down(recipe: Path) -> None:
    class Greedy:
        def score(self, model: object) -> dict[str, float]:
            torch.set_num_threads(2)
            return {"quality": 1.0}

        def write_samples(self, *_: object) -> None: ...

    trainer = _trainer(recipe, "optim.steps=3", "validate_every=1")
    trainer.task.validator = Greedy  # type: ignore[method-assign,assignment]
    trainer.run()
    assert torch.get_num_threads() == 1


def test_what_was_trained_is_saved_before_it_is_judged(recipe: Path, tmp_path: Path) -> None:
    class Failing:
        def score(self, model: object) -> dict[str, float]:
            raise MemoryError

    trainer = _trainer(recipe, "optim.steps=3", "validate_every=2", "save_minutes=1000")
    trainer.task.validator = Failing  # type: ignore[method-assign,assignment]
    with pytest.raises(MemoryError):
        trainer.run()
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 2


def test_init_starts_from_a_shipped_model(recipe: Path) -> None:
    trainer = _trainer(recipe, "init=speech-24k", "model={}")
    assert trainer.task.model.config == fsqcodec.load("speech-24k").model.config


def test_init_goes_on_with_the_prior_that_a_model_has(recipe: Path, speech: np.ndarray) -> None:
    trainer = _trainer(recipe, "init=speech-24k", "model={}", "loss.rate=[1, 1]")
    codec = fsqcodec.load("speech-24k")
    assert codec.prior
    tokens = codec.encode(speech).tokens[0, :, :100].T.astype(np.int64)
    digits = codec.model.quantizer.stage_digits(torch.from_numpy(tokens))[None]
    with torch.no_grad():
        bits = code_lengths(trainer.auxiliary["prior"](digits), digits).sum((0, 1, 3))
    assert np.allclose(bits.numpy(), codec.prior.bits(tokens).sum(0), rtol=0.03)


def test_a_changed_shape_keeps_the_tensors_that_still_fit(recipe: Path) -> None:
    donor = fsqcodec.load("speech-24k").model
    trainer = _trainer(recipe, "init=speech-24k", "model={groups: 16, stages: 20}")
    model = trainer.task.model
    assert model.quantizer.groups == 16
    assert torch.equal(model.encoder.down.weight, donor.encoder.down.weight)
    assert model.encoder.out.weight.shape[0] == 16 * len(donor.config.levels)


def test_a_network_grown_deeper_begins_as_its_donor(recipe: Path, speech: np.ndarray) -> None:
    donor = fsqcodec.load("speech-24k").model
    coarse, fine = (count + 1 for count in donor.config.decoder_blocks[::-1])
    model = _trainer(recipe, "init=speech-24k", f"model={{decoder_blocks: [{fine}, {coarse}]}}").task.model
    assert len(model.decoder.coarse) == coarse
    assert len(model.decoder.fine) == fine
    clip = torch.from_numpy(speech[None, :24000])
    with torch.no_grad():
        tokens = donor.encode(clip)[0]
        assert torch.equal(model.encode(clip)[0], tokens)
        assert torch.allclose(model.decode(tokens), donor.decode(tokens), atol=1e-5)


def test_the_rate_term_takes_bits_off(recipe: Path, tmp_path: Path) -> None:
    for name, weight in (("free", 1e-9), ("pressed", 100)):
        _trainer(recipe, f"out={tmp_path / name}", f"loss.rate=[{weight:.9f}, {weight}]").run()
    free, pressed = (_losses(tmp_path / name, "rate") for name in ("free", "pressed"))
    assert free[30] < free[1] == pytest.approx(np.log2(5), abs=0.3)
    assert pressed[30] < 0.9 * free[30]


def test_crops_lose_packets_where_asked(tmp_path: Path, recipe: Path) -> None:
    config = DataConfig([Source(str(SPEECH))], cache=str(tmp_path), lost=0.5)
    crops = Crops(config, 24000, 48000, 4, 0.0, 3, frame=480)
    lost = [bool((crops[i]["frames"] != torch.arange(100)).any()) for i in range(20)]
    assert 2 < sum(lost) < 18
    trainer = _trainer(recipe, "data.lost=0.5", "optim.steps=5")
    trainer.run()
    assert trainer.skipped == 0


def test_decoders_trained_with_gaps_decode_other_frames(recipe: Path) -> None:
    model = _trainer(recipe).task.model
    x, stages = torch.randn(2, 10 * model.config.frame) * 0.1, torch.tensor([model.quantizer.stages] * 2)
    frames = torch.arange(10).expand(2, -1).clone()
    frames[1, 6:8] = torch.tensor([5, 4])
    with torch.no_grad():
        (plain, *tokens), (lossy, *same) = model(x, stages), model(x, stages, True, frames)
    assert torch.equal(tokens[0], same[0])  # what is sent is the same
    assert torch.allclose(plain[0], lossy[0], atol=1e-6)
    assert not torch.allclose(plain[1], lossy[1], atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_recorded_steps_learn_like_others(recipe: Path, tmp_path: Path) -> None:
    for name, recorded in (("replayed", "true"), ("launched", "false")):
        _trainer(recipe, f"out={tmp_path / name}", f"cuda_graphs={recorded}", "loss.rate=2").run()
    replayed, launched = (_losses(tmp_path / name) for name in ("replayed", "launched"))
    assert replayed.keys() == launched.keys()
    assert all(replayed[s] == pytest.approx(launched[s], rel=0.02, abs=0.02) for s in replayed)
