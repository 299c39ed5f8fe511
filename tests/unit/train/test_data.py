"""Crops of recordings: repeatable, weighted, augmented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fsqcodec.errors import ConfigError
from fsqcodec.train.config.audio import DataConfig
from fsqcodec.train.config.base import Source
from fsqcodec.train.data.audio import Crops, with_gaps
from fsqcodec.train.data.augment import SNR, noise, place_in_room, put_behind
from fsqcodec.train.data.manifest import list_media
from helpers import SPEECH


def test_crops_depend_on_the_seed_and_their_number_only(tmp_path: Path) -> None:
    config = DataConfig([Source(str(SPEECH))], cache=str(tmp_path), pitch=0.5, eq=0.5)
    crops, same = (Crops(config, 24000, 4800, 12, 0.5, seed=5) for _ in range(2))
    other = Crops(config, 24000, 4800, 12, 0.5, seed=6)
    for i in (3, 0, 7, 3):
        assert torch.equal(crops[i]["audio"], same[i]["audio"])
        assert crops[i]["audio"].shape == (4800,)
        assert crops[i]["audio"].abs().max() <= 1
    assert not torch.equal(crops[3]["audio"], other[3]["audio"])
    stages = torch.stack([crops[i]["stages"] for i in range(300)])
    assert 0.3 < (stages < 12).float().mean() < 0.6
    assert int(stages.min()) >= 1


def test_sources_have_weights_and_bad_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.wav").write_bytes(SPEECH.read_bytes())
    (tmp_path / "media" / "b.wav").write_bytes(b"rubbish")
    lines: list[str] = []
    sources = [Source(str(tmp_path / "media"), 3.0), Source(str(SPEECH), 1.0)]
    crops = Crops(DataConfig(sources, cache=str(tmp_path / "c")), 24000, 4800, 12, 0, 1, lines.append)
    assert len(crops.clips) == 2
    assert crops.chances == pytest.approx([0.75, 1.0])
    assert len(lines) == 1
    assert "b.wav" in lines[0]
    (tmp_path / "media" / "report.HTML").write_text("a report of ours")
    assert "report.HTML" not in [file.name for file in list_media(str(tmp_path / "media"))]
    with pytest.raises(ConfigError, match="no such file or folder"):
        list_media(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="none of the training sources"):
        Crops(
            DataConfig([Source(str(tmp_path / "media" / "b.wav"))], cache=str(tmp_path / "c")),
            24000,
            10,
            1,
            0,
            1,
            lines.append,
        )


def test_rooms_and_backgrounds_keep_the_voice(tmp_path: Path) -> None:
    def crops(**settings: object) -> Crops:
        config = DataConfig(
            [Source(str(SPEECH))], cache=str(tmp_path), pitch=0, eq=0, gain_db=(0, 0), **settings
        )  # type: ignore[arg-type]
        return Crops(config, 24000, 24000, 4, 0.0, 3)

    plain = [crops()[i]["audio"] for i in range(8)]
    behind = [crops(background=1.0, backgrounds=[Source(str(SPEECH))])[i]["audio"] for i in range(8)]
    room = [crops(room=1.0)[i]["audio"] for i in range(8)]
    assert any(not torch.equal(a, b) for a, b in zip(plain, behind, strict=True))
    rng = np.random.default_rng(0)
    voice = torch.sin(torch.arange(24000) * 0.1)
    for snr in np.linspace(*SNR, 20):
        heard = put_behind(voice, noise(24000, rng), snr)
        ratio = 10 * torch.log10(voice.square().mean() / (heard - voice).square().mean())
        assert abs(ratio - snr) < 0.1
        assert torch.isfinite(place_in_room(voice, 24000, rng)).all()
    assert torch.equal(put_behind(torch.zeros(100), noise(100, rng), 10.0), torch.zeros(100))
    assert all(torch.isfinite(x).all() and x.abs().max() <= 1 for x in (*behind, *room))


def test_decoders_see_what_was_before_a_gap_in_its_place() -> None:
    rng = np.random.default_rng(1)
    gaps = [with_gaps(100, rng) for _ in range(50)]
    for frames in gaps:
        assert frames.shape == (100,)
        assert frames[0] == 0
        assert (frames <= np.arange(100)).all()
        lost = frames != np.arange(100)
        assert not lost[frames].any()  # only what came is seen
    assert 0.05 < np.mean([(frames != np.arange(100)).mean() for frames in gaps]) < 0.25
    run = np.flatnonzero(np.diff(gaps[0]) < 0)
    assert len(run)  # backwards
