from __future__ import annotations

import os
from pathlib import Path

import fsqcodec
import numpy as np
import pytest
import torch
from fsqcodec.audio.model import AudioConfig, AudioModel
from fsqcodec.codec import Codec
from fsqcodec.media import AudioReader
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"
SPEECH = DATA / "arctic_a0009.wav"

slow_checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
settings.register_profile("ci", max_examples=200, deadline=None, suppress_health_check=slow_checks)
settings.register_profile("long", max_examples=2000, deadline=None, suppress_health_check=slow_checks)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # two threads wait for each other on a busy machine


@pytest.fixture(scope="session")
def codec() -> Codec:
    return fsqcodec.load("speech-24k")


@pytest.fixture(scope="session")
def speech() -> NDArray[np.float32]:
    """Three seconds of a man, 24 kHz, (n,)."""
    with AudioReader(SPEECH, 24000) as reader:
        return reader.read()[0]


@pytest.fixture(scope="session")
def encoded(codec: Codec, speech: NDArray[np.float32]) -> fsqcodec.Encoded:
    return codec.encode(speech)


@pytest.fixture
def small_model() -> AudioModel:
    torch.manual_seed(0)
    config = AudioConfig(
        fine_channels=16, coarse_channels=16, encoder_blocks=(1, 1), decoder_blocks=(1, 1), groups=3, stages=4
    )
    return AudioModel(config).eval()
