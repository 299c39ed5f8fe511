"""Sound stays beside its pictures, gaps stay gaps, splices go on, and channels come back where they were."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from fsqcodec.cli.main import main
from fsqcodec.media.audio import AudioFacts, AudioReader, AudioWriter, Samples
from fsqcodec.media.passthrough import packets
from fsqcodec.media.video_reader import FrameReader
from media import picture

RATE = 48000


def _tone(seconds: float, hertz: float = 500.0) -> Samples:
    t = np.arange(round(seconds * RATE)) / RATE
    return 0.2 * np.sin(2 * np.pi * hertz * t)[None].astype(np.float32)


def _write(
    path: Path, pictures: list[float], sound: list[tuple[float, Samples]], codec: str = "flac"
) -> None:
    """A file of small pictures at some seconds, and of stretches of sound that begin at some seconds."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25) if pictures else None
        if video:
            video.width, video.height, video.pix_fmt = 80, 64, "yuv420p"  # type: ignore[attr-defined]
            video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        track = container.add_stream(codec, rate=RATE, layout="mono")
        track.time_base = Fraction(1, RATE)
        for i, second in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture(64, 80, 3.0 * i), format="rgb24")
            frame.pts, frame.time_base = round(second * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame.reformat(format="yuv420p")))  # type: ignore[union-attr]
        for second, samples in sound:
            for start in range(0, samples.shape[1], 960):
                piece = samples[:, start : start + 960]
                block = AudioFrame.from_ndarray((piece * 32767).astype(np.int16), format="s16", layout="mono")
                block.sample_rate, block.time_base = RATE, Fraction(1, RATE)
                block.pts = round(second * RATE) + start
                container.mux(track.encode(block))
        if video:
            container.mux(video.encode(None))
        container.mux(track.encode(None))


def _loud(path: Path) -> list[tuple[float, float]]:
    """Seconds at which the sound of a file is loud: beginnings and ends of the stretches, on the file's clock."""
    with AudioReader(path, on_clock=True) as reader:
        sound = reader.read()[0]
        rate = reader.facts.sample_rate
    level = (
        np.abs(sound[: len(sound) // (rate // 100) * (rate // 100)].reshape(-1, rate // 100)).max(1) > 0.03
    )
    edges = np.flatnonzero(np.diff(np.concatenate([[0], level, [0]]).astype(int)))
    loud: list[tuple[float, float]] = []
    for begin, end in edges.reshape(-1, 2) / 100:
        if loud and begin - loud[-1][1] < 0.2:  # a tone wavers at its ends
            begin = loud.pop()[0]
        loud.append((begin, end))
    return loud


def test_a_gap_in_the_sound_stays(tmp_path: Path) -> None:
    _write(tmp_path / "gap.mka", [], [(0, _tone(1)), (3, _tone(1, 800))])
    main_(["encode", tmp_path / "gap.mka", tmp_path / "gap.fsq", "--effort", 0])
    main_(["decode", tmp_path / "gap.fsq", tmp_path / "back.flac"])
    assert np.allclose(_loud(tmp_path / "back.flac"), [(0, 1), (3, 4)], atol=0.1)


@pytest.mark.parametrize("audio", ["speech", "copy"])
def test_a_track_that_starts_late_comes_late(tmp_path: Path, audio: str) -> None:
    _write(tmp_path / "late.mkv", [0.04 * i for i in range(50)], [(1, _tone(1))])
    main_(["encode", tmp_path / "late.mkv", tmp_path / "late.fsq", "--effort", 0, "--audio", audio])
    main_(["decode", tmp_path / "late.fsq", tmp_path / "back.mkv"])
    assert np.allclose(_loud(tmp_path / "back.mkv"), [(1, 2)], atol=0.05)


@pytest.mark.parametrize("audio", ["speech", "copy"])
def test_a_clock_that_does_not_begin_at_zero_shifts_nothing(tmp_path: Path, audio: str) -> None:
    _write(tmp_path / "a.ts", [5 + 0.04 * i for i in range(50)], [(5.5, _tone(1))], "mp2")
    main_(["encode", tmp_path / "a.ts", tmp_path / "a.fsq", "--effort", 0, "--audio", audio])
    main_(["decode", tmp_path / "a.fsq", tmp_path / "back.mkv"])
    ((begin, end),) = _loud(tmp_path / "back.mkv")
    with FrameReader(tmp_path / "back.mkv") as reader:
        first = next(iter(reader)).time * float(reader.facts.time_base)
    assert begin - first == pytest.approx(0.5, abs=0.06)
    assert end - begin == pytest.approx(1, abs=0.06)


def test_a_splice_goes_on(tmp_path: Path) -> None:
    _write(tmp_path / "a.ts", [0.04 * i for i in range(25)], [(0, _tone(1))], "mp2")
    twice = tmp_path / "twice.ts"
    twice.write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    with FrameReader(twice) as reader:
        times = [frame.time * float(reader.facts.time_base) for frame in reader]
    assert len(times) == 50
    assert times[-1] - times[0] == pytest.approx(1.96, abs=0.05)
    heard = [packet.seconds for packet in packets(twice)]
    assert heard == sorted(set(heard))
    assert heard[-1] == pytest.approx(2, abs=0.1)
    with AudioReader(twice) as reader_of_sound:
        assert reader_of_sound.read().shape[1] / RATE == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("layout", ["quad", "3.0", "2.1", "hexagonal", "5.1", "stereo", "mono"])
def test_layouts_come_back(tmp_path: Path, layout: str) -> None:
    channels = av.AudioLayout(layout).nb_channels
    with (tmp_path / "in.wav").open("wb") as target:
        writer = AudioWriter(target, ".wav", AudioFacts(24000, channels, layout=layout))
        assert not writer.changed
        writer.write(np.stack([_tone(0.3, 300.0 + 50 * c)[0] for c in range(channels)]))
        writer.close()
    main_(["encode", tmp_path / "in.wav", tmp_path / "c.fsq", "--effort", 0])
    main_(["decode", tmp_path / "c.fsq", tmp_path / "back.wav"])
    with av.open(str(tmp_path / "in.wav")) as before, av.open(str(tmp_path / "back.wav")) as after:
        assert before.streams.audio[0].layout.name == after.streams.audio[0].layout.name


def test_a_layout_that_a_format_cannot_name_is_said() -> None:
    writer = AudioWriter(io.BytesIO(), ".mp3", AudioFacts(24000, 2, layout="downmix"))
    assert "downmix is written as stereo" in writer.changed


def main_(arguments: list[object]) -> None:
    with pytest.raises(SystemExit) as done:
        main([*map(str, arguments), "-q", "-y"])
    assert done.value.code in (0, None)
