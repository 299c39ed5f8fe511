"""`fsqcodec eval`: results, their statistics, and the page in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from fsqcodec.train.evaluation import quantizers
from fsqcodec.train.evaluation.codecs import Decoded
from fsqcodec.train.evaluation.measures import measure
from fsqcodec.train.evaluation.media import Original
from fsqcodec.train.evaluation.statistics import bjontegaard_quality, bjontegaard_rate, interval
from fsqcodec.train.evaluation.summary import by_clip, compare, differences
from fsqcodec.train.metrics import Signal
from helpers import SPEECH, call
from media import picture, write_video
from PIL import Image


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval")
    (folder / "clips").mkdir()
    samples, rate = soundfile.read(str(SPEECH))
    soundfile.write(str(folder / "clips" / "talk.wav"), samples[: 2 * rate], rate)
    Image.fromarray(picture(176, 200)).save(folder / "clips" / "photo.png")
    write_video(folder / "clips" / "clip.mkv", 4, size=(96, 112))
    (folder / "clips" / "broken.wav").write_bytes(b"RIFF")
    done = call("eval", folder / "clips", "--peers", "opus,jpeg,mjpeg", "--out", folder / "out", "--jobs", 2)
    assert b"broken.wav" in done.stderr
    return folder / "out"


def test_results_hold_every_clip_codec_and_setting(report: Path) -> None:
    results = json.loads((report / "results.json").read_text())
    assert results["schema"] == "fsqcodec-eval-2"
    assert {row["kind"] for row in results["rows"]} == {"sound", "picture", "video"}
    assert {row["codec"] for row in results["rows"]} == {"speech-24k", "visual", "opus", "jpeg", "mjpeg"}
    assert {failure["clip"].split("/")[-1] for failure in results["failures"]} == {"broken.wav"}
    speech = {r["setting"]: r for r in results["rows"] if r["codec"] == "speech-24k"}
    assert speech[3.0]["rate"] <= 3.0
    assert speech[6.0]["measures"]["PESQ-WB (16 kHz)"] > speech[1.5]["measures"]["PESQ-WB (16 kHz)"]
    jpeg = sorted((r["rate"], r["measures"]["PSNR RGB dB"]) for r in results["rows"] if r["codec"] == "jpeg")
    assert [q for _, q in jpeg] == sorted(q for _, q in jpeg)
    assert all(r["memory_mb"] is None or r["memory_mb"] >= 0 for r in results["rows"])
    assert (report / "plots" / "sound-pesq-wb.svg").read_text().count("opus") >= 1
    lines = (report / "results.csv").read_text().splitlines()
    assert len(lines) == 1 + len(results["rows"])


@pytest.mark.parametrize("behind", ["", "hum.wav"])
def test_clips_are_mixed_at_the_level_asked_for(tmp_path: Path, behind: str) -> None:
    samples, rate = soundfile.read(str(SPEECH))
    hum = 0.1 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    soundfile.write(str(tmp_path / "hum.wav"), hum, 8000)
    place = str(tmp_path / behind) if behind else ""
    call("eval", "mix", SPEECH, "--behind", place, "--snr", 10, "--out", tmp_path / "mixed")
    mixed, found = soundfile.read(str(tmp_path / "mixed" / f"{SPEECH.stem}.flac"))
    added = mixed - samples
    assert (len(mixed), found) == (len(samples), rate)
    assert 10 * np.log10((samples**2).sum() / (added**2).sum()) == pytest.approx(10, abs=0.1)
    if behind:
        spectrum = np.abs(np.fft.rfft(added))
        assert spectrum.argmax() * rate / len(added) == pytest.approx(440, abs=1)
    again = call("eval", "mix", SPEECH, "--out", tmp_path / "mixed", code=1)
    assert b"exists" in again.stderr


def test_nothing_is_mixed_with_a_file_that_holds_no_sound(tmp_path: Path) -> None:
    soundfile.write(str(tmp_path / "empty.wav"), np.zeros(0), 8000)
    done = call(
        "eval", "mix", SPEECH, "--behind", tmp_path / "empty.wav", "--out", tmp_path / "mixed", code=1
    )
    assert b"empty.wav" in done.stderr
    assert b"--behind" in done.stderr
    assert not list((tmp_path / "mixed").glob("*"))


def test_what_was_measured_is_remembered(report: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (report / "cache").glob("*.json")}
    call("eval", "run", report.parent / "clips", "--peers", "opus,jpeg,mjpeg", "--out", report, "--no-report")
    assert before == {path: path.stat().st_mtime_ns for path in (report / "cache").glob("*.json")}


def test_compare_is_a_gate(report: Path, tmp_path: Path) -> None:
    results = json.loads((report / "results.json").read_text())
    call("eval", "compare", report / "results.json", report / "results.json")
    for row in results["rows"]:
        if "PESQ-WB (16 kHz)" in row["measures"]:
            row["measures"]["PESQ-WB (16 kHz)"] -= 0.3
    (tmp_path / "worse.json").write_text(json.dumps(results))
    done = call("eval", "compare", report / "results.json", tmp_path / "worse.json", code=1)
    assert b"worse" in done.stdout
    call("eval", "compare", report / "results.json", tmp_path / "worse.json", "--tolerance", 0.5)
    (tmp_path / "no.json").write_text("{}")
    assert b"no.json" in call("eval", "compare", tmp_path / "no.json", report / "results.json", code=1).stderr


def test_statistics() -> None:
    rate = np.array([1.0, 2.0, 4.0, 8.0])
    curve = np.stack([rate, 30 + 3 * np.log2(rate)], 1)
    halved = curve * [0.5, 1]
    assert bjontegaard_rate(curve, halved) == pytest.approx(-50, abs=0.1)
    assert bjontegaard_quality(curve, halved) == pytest.approx(3, abs=0.01)
    assert bjontegaard_rate(curve, curve + np.array([0, 100])) is None
    assert bjontegaard_rate(curve, np.concatenate([halved, halved[-1:]])) == pytest.approx(-50, abs=0.1)
    low, high = interval(np.random.default_rng(0).normal(5, 1, 100))
    assert low < 5.2
    assert high > 4.8
    assert high - low == pytest.approx(0.39, abs=0.1)
    assert compare({"rows": []}, {"rows": []}) == []


@pytest.mark.parametrize("name", quantizers.NAMES)
@pytest.mark.parametrize("bits", [8, 10])
def test_quantizers_of_the_study_spend_the_same_bits(name: str, bits: int) -> None:
    quantizer = quantizers.build(name, bits)
    z = torch.randn(2, 60, quantizer.channels, requires_grad=True)
    values, tokens, loss = quantizer(z)
    assert values.shape == z.shape
    assert tokens.shape[:2] == (2, 60)
    codes = quantizers._codes(name, bits)
    assert int(tokens.min()) >= 0
    assert int(tokens.max()) < codes
    assert bits - 0.15 <= np.log2(codes) * tokens.shape[-1] <= bits
    (values.square().mean() + loss).backward()
    assert z.grad is not None
    use = quantizers._use(torch.arange(codes).repeat(2)[:, None], codes)
    assert use["utilisation"] == 1
    assert use["perplexity"] == pytest.approx(codes)


def measured(y: Signal, x: Signal, rate: int) -> dict[str, float]:
    return measure(Original("sound", x, Fraction(rate)), Decoded(y, 1, 1.0, 1.0))


def test_comb_tells_a_buzz() -> None:
    x, rate = soundfile.read(SPEECH, dtype="float32")
    buzz = np.zeros_like(x)
    buzz[:: rate // 100] = 0.3
    assert abs(measured(0.5 * x, x, rate)["comb dB"]) < 0.1
    assert measured(x + buzz, x, rate)["comb dB"] > 3


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.3, 0.6])
def test_a_snippet_has_the_measures_that_mean_something(seconds: float) -> None:
    x, rate = soundfile.read(SPEECH, dtype="float32")
    x = x[rate // 2 :][: int(seconds * rate)]
    found = measured(0.9 * x, x, rate)
    assert "mel distance dB" in found
    assert "ViSQOL speech (16 kHz)" not in found
    assert ("comb dB" in found) == (seconds > 0.2)
    assert ("ESTOI (10 kHz)" in found) == (seconds > 0.5)


def test_silence_has_no_score_that_is_no_number() -> None:
    silence = np.zeros(32000, np.float32)
    found = measured(silence, silence, 16000)
    assert np.isfinite(list(found.values())).all()
    assert "ViSQOL speech (16 kHz)" not in found


def test_differences_by_clip_and_against_every_anchor() -> None:
    rows = [
        {"clip": clip, "kind": "video", "codec": codec, "setting": i, "rate": factor * 2.0**i, "bytes": 1, "encode_x": 1.0,
         "decode_x": 1.0, "memory_mb": None, "measures": {"PSNR YUV 6:1:1 dB": 30.0 + 3 * i}}
        for clip in ("a", "b") for codec, factor in (("visual", 4), ("mjpeg", 16), ("x264", 2)) for i in range(5)
    ]  # fmt: skip
    found = {(row["codec"], row["against"]): row["rate"] for row in differences({"rows": rows})}
    assert found["visual", "mjpeg"] == pytest.approx(-75, abs=0.1)
    assert found["visual", "x264"] == pytest.approx(100, abs=0.5)
    assert {(row["clip"], round(row["rate"])) for row in by_clip({"rows": rows}) if row["against"] == "x264" and row["codec"] == "visual"} == {("a", 100), ("b", 100)}  # fmt: skip


def test_the_page_in_a_browser(report: Path, chromium: Callable[..., Any]) -> None:
    from axe_selenium_python import Axe
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    browser = chromium("--window-size=1280,900")
    browser.get((report / "report.html").as_uri())
    WebDriverWait(browser, 60).until(
        lambda b: b.execute_script("return document.documentElement.dataset.ready")
    )
    assert len(browser.find_elements(By.CSS_SELECTOR, ".plot .main-svg")) >= 6
    head = browser.find_element(By.CSS_SELECTOR, "#sound th:nth-child(2) button")
    column = "return [...document.querySelectorAll('#sound tbody tr')].map(r => parseFloat(r.cells[1].textContent))"
    for ordered in (sorted, lambda x: sorted(x, reverse=True)):
        head.click()
        assert browser.execute_script(column) == ordered(browser.execute_script(column))
    player = browser.find_element(By.CSS_SELECTOR, ".player[role=group]")
    browser.execute_script("arguments[0].focus()", player)
    player.send_keys(Keys.SPACE)
    WebDriverWait(browser, 20).until(lambda _: player.get_attribute("data-playing") == "true")
    player.send_keys("2")
    assert player.get_attribute("data-current") == "1"
    player.send_keys(Keys.SPACE)
    assert player.get_attribute("data-playing") == "false"
    wipe = browser.find_element(By.CSS_SELECTOR, "input[aria-label^=Wipe]")
    assert wipe.is_displayed()
    pair = browser.find_element(By.CSS_SELECTOR, ".player[aria-label^=Videos]")
    videos = pair.find_elements(By.TAG_NAME, "video")
    browser.execute_script("arguments[0].scrollIntoView(); arguments[0].focus()", pair)
    pair.send_keys("2")
    WebDriverWait(browser, 20).until(
        lambda b: b.execute_script("return arguments[0].readyState >= 2", videos[1])
    )
    pair.send_keys(Keys.SPACE)
    WebDriverWait(browser, 20).until(lambda _: pair.get_attribute("data-playing") == "true")
    pair.send_keys(Keys.SPACE)
    WebDriverWait(browser, 20).until(lambda _: pair.get_attribute("data-playing") == "false")
    places = [browser.execute_script("return arguments[0].currentTime", video) for video in videos]
    assert abs(places[0] - places[1]) < 0.05
    axe = Axe(browser)
    axe.inject()
    found = axe.run()
    serious = [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert serious == [], json.dumps(found["violations"], indent=1)[:3000]
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    browser.save_screenshot(str(report / "wide.png"))
    browser.set_window_size(390, 800)
    overflow = (
        "return document.documentElement.scrollWidth - window.innerWidth"  # plots follow after a moment
    )
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(overflow) <= 0)
    browser.save_screenshot(str(report / "narrow.png"))
