from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Two threads wait for each other on a busy machine: one in each process of the tests, and in those that it starts. Numba
# counts as well: where its loops run in parallel, as in ViSQOL, it changes torch's number of threads to its own.
for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import fsqcodec
import numpy as np
import pytest
import torch
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.model import AudioConfig, AudioModel
from fsqcodec.media.audio import AudioReader
from helpers import SPEECH, TESTS, write_recipe
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

slow_checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
settings.register_profile("ci", max_examples=200, deadline=None, suppress_health_check=slow_checks)
settings.register_profile("long", max_examples=2000, deadline=None, suppress_health_check=slow_checks)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the folder `integration` bear its mark."""
    for item in items:
        if TESTS / "integration" in item.path.parents:
            item.add_marker("integration")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # whatever the test before has done


@pytest.fixture(scope="session")
def codec() -> NeuralAudioCodec:
    return fsqcodec.load("speech-24k")


@pytest.fixture(scope="session")
def speech() -> NDArray[np.float32]:
    """Three seconds of a man, 24 kHz, (n,)."""
    with AudioReader(SPEECH, 24000) as reader:
        return reader.read()[0]


@pytest.fixture(scope="session")
def encoded(codec: NeuralAudioCodec, speech: NDArray[np.float32]) -> fsqcodec.Encoded:
    return codec.encode(speech)


@pytest.fixture
def small_model() -> AudioModel:
    torch.manual_seed(0)
    config = AudioConfig(
        fine_channels=16, coarse_channels=16, encoder_blocks=(1, 1), decoder_blocks=(1, 1), groups=3, stages=4
    )
    return AudioModel(config).eval()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Of a run of 30 steps of a small network into `tmp_path / "run"`."""
    return write_recipe(tmp_path)


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a headless Chromium with further flags; without one the test is skipped."""
    place, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not place or not driver:
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    opened = []

    def open_browser(*flags: str) -> Any:
        options = Options()
        options.binary_location = place
        always = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
                  f"--user-data-dir={tmp_path}/browser")  # fmt: skip
        for flag in (*always, *flags):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        opened.append(webdriver.Chrome(options=options, service=Service(driver)))
        return opened[-1]

    yield open_browser
    for browser in opened:
        browser.quit()
