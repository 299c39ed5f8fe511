"""`fsqcodec eval`: results, their statistics, and the page in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers import SPEECH, call
from media import picture, write_video
from PIL import Image

pytestmark = pytest.mark.xdist_group("report")

CODECS = ("--models", "speech-24k:0,visual", "--peers", "opus,jpeg,mjpeg")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval")
    (folder / "clips").mkdir()
    samples, rate = soundfile.read(str(SPEECH))
    soundfile.write(str(folder / "clips" / "talk.wav"), samples[: 2 * rate], rate)
    Image.fromarray(picture(176, 200)).save(folder / "clips" / "photo.png")
    write_video(folder / "clips" / "clip.mkv", 4, size=(96, 112))
    (folder / "clips" / "broken.wav").write_bytes(b"RIFF")
    done = call("eval", folder / "clips", *CODECS, "--out", folder / "out", "--jobs", 2)
    assert b"broken.wav" in done.stderr
    return folder / "out"


def test_results_hold_every_clip_codec_and_setting(report: Path) -> None:
    results = json.loads((report / "results.json").read_text())
    assert results["schema"] == "fsqcodec-eval-2"
    assert {row["kind"] for row in results["rows"]} == {"sound", "picture", "video"}
    assert {row["codec"] for row in results["rows"]} == {"speech-24k:0", "visual", "opus", "jpeg", "mjpeg"}
    assert {failure["clip"].split("/")[-1] for failure in results["failures"]} == {"broken.wav"}
    speech = {r["setting"]: r for r in results["rows"] if r["codec"] == "speech-24k:0"}
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
    call("eval", "run", report.parent / "clips", *CODECS, "--out", report, "--no-report")
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
