"""Recipes: what is missing or wrong is named, and what is set is read."""

from __future__ import annotations

import json
from pathlib import Path

import fsqcodec
import pytest
from fsqcodec.errors import ConfigError
from fsqcodec.train.build import load_config
from fsqcodec.train.config.audio import AudioTrainConfig
from fsqcodec.train.config.prior import PriorConfig
from fsqcodec.train.config.visual import VisualTrainConfig
from fsqcodec.train.configs import shipped
from fsqcodec.train.schedule import learning_rate


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("out: x", "'data' is missing"),
        ("out: x\ndata: {sources: [{path: a, wieght: 2}]}", "wieght"),
        ("out: x\ndata: {sources: []}\noptim: {steps: many}", "'many' does not fit"),
        ("out: x\ndata: {sources: []}\noptim: {steps: 1.5}", "does not fit"),
        ("out: x\ndata: {sources: []}\nloss: {mel: [1, 2, 3]}", "two numbers, or one for both"),
        ("out: [", "YAML"),
        ("out: x\ndata: 5", "expected settings"),
        ("out: x\nkind: smell", "'smell' is none of audio, visual, prior"),
    ],
)
def test_wrong_configurations_say_where(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)


def test_one_number_is_a_weight_from_first_to_last_step(recipe: Path) -> None:
    loss = load_config(recipe, ["loss.mel=3", "loss.rate=[5, 12]"]).loss
    assert (loss.mel, loss.rate) == ((3.0, 3.0), (5.0, 12.0))


def test_a_recipe_is_of_the_kind_that_it_names(recipe: Path, tmp_path: Path) -> None:
    assert isinstance(load_config(recipe), AudioTrainConfig)
    assert isinstance(load_config(recipe, ["kind=audio"]), AudioTrainConfig)
    short = tmp_path / "short.yaml"
    short.write_text("out: x\ndata: {sources: []}\n")
    assert isinstance(load_config(short, ["kind=visual"]), VisualTrainConfig)
    prior = load_config(short, ["prior_of=speech-24k", "steps=9", "batch=3", "lr=0.5"])
    assert isinstance(prior, PriorConfig)
    assert (prior.optim.steps, prior.optim.batch, prior.optim.lr) == (9, 3, 0.5)
    with pytest.raises(ConfigError, match="unknown setting 'optim'"):
        load_config(short, ["prior_of=speech-24k", "optim.steps=9"])


def test_a_setting_can_be_emptied(recipe: Path) -> None:
    assert load_config(recipe, ["validate=", "init="]).validate == ""


def test_the_shipped_recipe_is_what_made_the_shipped_model() -> None:
    recipe = load_config(shipped()["speech-24k"])
    made = fsqcodec.load("speech-24k").metadata["train"]["config"]
    assert json.loads(json.dumps(made["data"]["sources"])) == [vars(s) for s in recipe.data.sources]


def test_schedule() -> None:
    config = load_config(shipped()["speech-24k"]).optim
    rates = [learning_rate(s, config) for s in range(config.steps + 1)]
    assert rates[0] < rates[config.warmup] == config.lr == max(rates)
    assert rates[config.steps] == pytest.approx(config.lr / 50)


def test_yaml_may_say_no(recipe: Path) -> None:
    assert load_config(recipe, ["mixed_precision=no"]).mixed_precision == "no"
