"""Sound files of every kind, and other sampling rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fsqcodec.media.audio import CODECS, AudioFacts, AudioReader, AudioWriter, Resampler


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_every_output_format_is_readable_again(tmp_path: Path, suffix: str) -> None:
    t = np.arange(24000) / 24000
    audio = np.stack([np.sin(440 * 6.28 * t), np.sin(660 * 6.28 * t)]).astype(np.float32) * 0.3
    path = tmp_path / f"x{suffix}"
    with path.open("wb") as out:
        writer = AudioWriter(out, suffix, AudioFacts(24000, 2))
        for part in np.array_split(audio, 7, axis=1):
            writer.write(part)
        writer.close()
    with AudioReader(path, 24000) as reader:
        back = reader.read()
    assert back.shape[0] == 2
    assert abs(back.shape[1] - 24000) < 2500
    assert np.abs(np.fft.rfft(back[1])).argmax() == pytest.approx(660, abs=60)


@pytest.mark.parametrize(
    ("source", "target"), [(44100, 24000), (8000, 24000), (24000, 48000), (24000, 11025)]
)
def test_resampling_keeps_time_in_any_blocks(source: int, target: int) -> None:
    t = np.arange(source * 2) / source
    audio = np.sin(2 * np.pi * 300 * t).astype(np.float32)[None]
    resampler = Resampler(1, source, target)
    parts = [resampler.push(part) for part in np.array_split(audio, 23, axis=1)] + [resampler.flush()]
    got = np.concatenate(parts, axis=1)[0]
    assert abs(len(got) - 2 * target) <= 1
    expected = np.sin(2 * np.pi * 300 * np.arange(len(got)) / target)
    assert np.abs(got - expected)[500:-500].max() < 1e-3
