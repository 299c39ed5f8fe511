"""Fitting a prior and fine-tuning, on a model small enough to be made here."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import fsqcodec
import numpy as np
import pytest
import soundfile
import torch
from fsqcodec.checkpoints import audio_weights, token_hash
from fsqcodec.cli.main import main
from fsqcodec.errors import ConfigError, ModelError
from fsqcodec.train.build import build_trainer, load_config
from fsqcodec.train.config.prior import PriorConfig
from fsqcodec.train.finetune import Finetune, Settings, split
from helpers import RECIPE, SPEECH
from safetensors.torch import load_file

pytestmark = pytest.mark.xdist_group("finetune")

PRIOR = """
out: {out}
prior_of: {model}
start: {start}
hours: 0.01
frames: 40
steps: {steps}
batch: 4
data: {{cache: {cache}, workers: 0, sources: [{{path: {speech}}}]}}
mixed_precision: "no"
threads: 1
"""


def fit(folder: Path, base: Path, steps: int = 60, name: str = "prior") -> Path:
    recipe = folder / f"{name}.yaml"
    recipe.write_text(PRIOR.format(out=folder / name, model=base / "model.safetensors", steps=steps,
                                   start=base / "prior.safetensors", cache=folder / "cache", speech=SPEECH))  # fmt: skip
    config = load_config(recipe)
    assert isinstance(config, PriorConfig)
    build_trainer(config, lambda _: None).run()
    return folder / name


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with its prior."""
    folder = tmp_path_factory.mktemp("base")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(out=folder / "run", cache=folder / "cache", speech=SPEECH, steps=30))
    # A few small steps: tokens of a nearly random encoder have a past to learn from.
    build_trainer(
        load_config(recipe, ["loss.rate=[0.001, 0.001]", "optim.steps=4", "optim.lr=0.00001"]), lambda _: None
    ).run()
    return fit(folder, folder / "run", 150) / "model.safetensors"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of a second or two."""
    folder = tmp_path_factory.mktemp("recordings")
    samples, rate = soundfile.read(SPEECH)
    for i in range(4):
        soundfile.write(folder / f"take {i}.wav", samples[i * rate // 2 :][: 2 * rate], rate)
    return folder


def settings(base: Path, recordings: Path, out: Path, **others: object) -> Settings:
    values = {"steps": 40, "batch": 4, "lr": 3e-3, "share": 0.25, "threads": 1, "workers": 0}
    return Settings(str(base), [str(recordings)], out, mixed_precision="no", **{**values, **others})  # type: ignore[arg-type]


def test_the_fitted_prior_learns_and_its_files_decode(base: Path, speech: np.ndarray) -> None:
    codec = fsqcodec.load(base)
    encoded = codec.encode(np.tile(speech, 3))
    assert codec.prior
    assert np.array_equal(codec.from_bytes(codec.to_bytes(encoded)).tokens, encoded.tokens)
    with (base.parent / "log.csv").open() as table:
        bits = [float(row["bits"]) for row in csv.DictReader(table)]
    assert bits[-1] < bits[0] < np.log2(5)
    assert codec.metadata["prior"]["steps"] == 150


def test_a_fit_resumes_to_the_same_integers(base: Path, tmp_path: Path) -> None:
    run = base.parent.parent / "run"
    whole = audio_weights(fit(tmp_path, run, 30, "whole") / "model.safetensors").prior
    parts_of = load_config(tmp_path / "whole.yaml", [f"out={tmp_path / 'parts'}"])

    def stop(step: int, *_: object) -> None:
        if step == 25:  # past the step from which weights are quantized
            signal.raise_signal(signal.SIGTERM)

    build_trainer(parts_of, lambda _: None).run(stop)
    again = build_trainer(parts_of, lambda _: None)
    assert again.step == 25
    again.run()
    parts = audio_weights(tmp_path / "parts" / "model.safetensors").prior
    assert whole
    assert parts
    assert whole.hash == parts.hash
    changed = [f"out={tmp_path / 'parts'}", "prior_of=speech-24k"]
    with pytest.raises(ConfigError, match="tokens of another model"):
        build_trainer(load_config(tmp_path / "whole.yaml", changed), lambda _: None)


def test_a_decoder_tuned_to_a_voice_reads_the_old_files(
    base: Path, recordings: Path, tmp_path: Path, speech: np.ndarray
) -> None:
    old = fsqcodec.load(base)
    data = old.to_bytes(old.encode(speech))
    scores = Finetune(settings(base, recordings, tmp_path / "voice.safetensors"), lambda _: None).run()
    assert scores["after"]["mel"] < scores["before"]["mel"]
    fixed = old.model.quantizer.bits * old.model.quantizer.stages * old.frame_rate / 1000
    assert scores["after"]["kbps"] == pytest.approx(scores["before"]["kbps"], rel=1e-3)
    assert scores["before"]["kbps"] < fixed
    tuned = fsqcodec.load(tmp_path / "voice.safetensors")
    assert token_hash(tuned.model) == token_hash(old.model)
    assert np.array_equal(tuned.from_bytes(data).tokens, old.from_bytes(data).tokens)
    assert not np.array_equal(tuned.decode(tuned.from_bytes(data)), old.decode(old.from_bytes(data)))
    facts = tuned.metadata["finetune"]
    assert len(facts["held_out"]) == 1
    assert len(facts["files"]) == 3
    assert facts["after"] == scores["after"]


def test_a_decoder_trained_against_an_adversary_keeps_tokens_and_prior(base: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(out=tmp_path / "run", cache=tmp_path / "cache", speech=SPEECH, steps=40))
    against = [
        "model={}",
        f"init={base}",
        "parts=decoder",
        "loss.adversarial=[0.1, 0.1]",
        "loss.features=[0.1, 0.1]",
    ]
    build_trainer(load_config(recipe, against), lambda _: None).run()
    with (tmp_path / "run" / "log.csv").open() as table:
        critic = [float(row["critic"]) for row in csv.DictReader(table)]
    assert np.mean(critic[-5:]) < 0.9 * np.mean(critic[:5])  # it tells a poor reconstruction from an original
    made, old = fsqcodec.load(tmp_path / "run" / "model.safetensors"), fsqcodec.load(base)
    assert (made.model_hash, made.coder.hash) == (old.model_hash, old.coder.hash)
    again = load_config(
        recipe,
        [*against, f"out={tmp_path / 'on'}", f"adversary={tmp_path / 'run' / 'adversary.safetensors'}"],
    )
    kept = build_trainer(again, lambda _: None).auxiliary["adversary"].state_dict()
    assert all(
        torch.equal(v, kept[k]) for k, v in load_file(tmp_path / "run" / "adversary.safetensors").items()
    )


def test_a_full_tuning_has_tokens_and_a_prior_of_its_own(
    base: Path, recordings: Path, tmp_path: Path, speech: np.ndarray
) -> None:
    out = tmp_path / "voice.safetensors"
    Finetune(settings(base, recordings, out, full=True, steps=20, keep_worse=True), lambda _: None).run()
    tuned, old = fsqcodec.load(out), fsqcodec.load(base)
    assert token_hash(tuned.model) != token_hash(old.model)
    assert tuned.prior
    with pytest.raises(ModelError, match="made with model"):
        tuned.from_bytes(old.to_bytes(old.encode(speech)))
    encoded = tuned.encode(speech)
    assert np.array_equal(tuned.from_bytes(tuned.to_bytes(encoded)).tokens, encoded.tokens)


def test_what_got_worse_is_not_written(base: Path, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "worse.safetensors"
    with pytest.raises(ModelError, match="got worse"):
        Finetune(settings(base, recordings, out, lr=100.0, steps=5), lambda _: None).run()
    assert not out.exists()


def test_one_file_cannot_be_held_out(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two files"):
        Finetune(settings(base, SPEECH, tmp_path / "x.safetensors"), lambda _: None)
    files = [Path(f"{i}.wav") for i in range(30)]
    train, held = split(files, 0.1)
    assert len(held) == 3
    assert sorted(train + held) == sorted(files)


def test_the_command_line_says_what_is_wrong(
    recordings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    exists = tmp_path / "there.safetensors"
    exists.write_bytes(b"mine")
    for arguments, code, says in (
        ([str(recordings), "--out", "x.pt"], 2, "safetensors"),
        ([str(recordings), "--out", str(exists)], 1, "--overwrite"),
        ([str(tmp_path / "none"), "--out", str(tmp_path / "y.safetensors")], 1, "no such file or folder"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["finetune", "speech-24k", *arguments])
        assert caught.value.code == code
        assert says in capfd.readouterr().err
    assert exists.read_bytes() == b"mine"
