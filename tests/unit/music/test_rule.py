from __future__ import annotations

import numpy as np
import pytest
from fsqcodec.train.music.rule import Coder, Rule
from numpy.typing import NDArray


@pytest.fixture(scope="module")
def sound() -> NDArray[np.float32]:
    """Half a second of noise that fades over a tone and of a click, (n, 2)."""
    time = np.arange(24000) / 48000
    noise = np.random.default_rng(1).standard_normal((24000, 2)) * np.exp(-8 * time)[:, None] * 0.1
    noise[12345] += 0.5
    return (noise + 0.2 * np.sin(2 * np.pi * 440 * time)[:, None]).astype(np.float32)


def test_a_finer_knob_takes_more_bits_and_comes_nearer(sound: NDArray[np.float32]) -> None:
    errors, rates = [], []
    for knob in (-40.0, -20.0, 0.0):
        coded = Coder(Rule(knob=knob))(sound)
        assert coded.samples.shape == sound.shape
        errors.append(float(np.square(coded.samples - sound).mean()))
        rates.append(coded.coefficient_kbps)
    assert errors[0] < errors[1] < errors[2] < float(np.square(sound).mean())
    assert rates[0] > rates[1] > rates[2]


def test_tables_of_the_same_sound_save_bits(sound: NDArray[np.float32]) -> None:
    rule = Rule(knob=-10)
    first = Coder(rule)
    plain = first(sound)
    counted = Coder(rule, first.tables)(sound)
    assert counted.kbps < plain.kbps
    assert np.array_equal(counted.samples, plain.samples)


def test_silence_stays_quiet() -> None:
    coded = Coder(Rule())(np.zeros((5000, 2), np.float32))
    assert np.abs(coded.samples).max() < 1e-2
