"""Measures, their statistics and the study of quantizers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import soundfile
import torch
from fsqcodec.train.evaluation import quantizer_study as quantizers
from fsqcodec.train.evaluation.aggregate import by_clip, compare, differences, interval
from fsqcodec.train.evaluation.bd_rate import bjontegaard_quality, bjontegaard_rate
from fsqcodec.train.evaluation.clips import Decoded, Original
from fsqcodec.train.evaluation.codecs import round_trip
from fsqcodec.train.evaluation.metrics import Signal, measure
from helpers import SPEECH


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


def test_rates_are_compared_over_a_range() -> None:
    rate = 2.0 ** np.arange(10)
    curve = np.stack([rate, 30 + 3 * np.log2(rate)], 1)
    other = curve * np.where(rate < 20, 0.5, 2)[:, None] ** [1, 0]
    assert bjontegaard_rate(curve, other, (1, 8)) == pytest.approx(-50, abs=0.1)
    assert bjontegaard_rate(curve, other, (64, 1000)) == pytest.approx(100, abs=0.1)
    assert bjontegaard_rate(curve, other, (1, 512)) == bjontegaard_rate(curve, other)
    assert bjontegaard_rate(curve, other, (1000, 2000)) is None


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


def test_models_are_measured_with_the_search_that_is_asked_for(speech: Signal) -> None:
    clip = Original("sound", speech[:7200], Fraction(24000))
    none, asked, unasked = (round_trip(clip, f"speech-24k{effort}", 3.0).data for effort in (":0", ":32", ""))
    assert np.array_equal(asked, unasked)  # as `fsqcodec encode` does
    assert not np.array_equal(none, unasked)


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
