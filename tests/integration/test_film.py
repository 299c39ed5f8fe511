"""Pictures and video through the command line."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from fsqcodec.media.color import Colours
from fsqcodec.media.video_reader import FrameReader
from fsqcodec.media.video_writer import MovieWriter
from helpers import call
from media import picture, psnr, sound_packets, times_of, write_video
from PIL import Image


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    write_video(path, 12, times=[0, 24, 48, 72, 100, 124, 200, 224, 240, 264, 290, 400], sound=0.7)
    return path


def test_pictures_keep_size_colour_and_transparency(tmp_path: Path) -> None:
    original = picture(101, 67)
    Image.fromarray(original).save(tmp_path / "rgb.png")
    Image.fromarray(original[..., 1]).save(tmp_path / "grey.png")
    alpha = np.full((101, 67, 1), 90, np.uint8)
    Image.fromarray(np.concatenate([original, alpha], -1)).save(tmp_path / "rgba.png")
    Image.fromarray(original).save(tmp_path / "photo.jpg", quality=95)
    call("encode", tmp_path / "rgb.png", tmp_path / "grey.png", tmp_path / "rgba.png", tmp_path / "photo.jpg",
         "--out-dir", tmp_path / "small", "--quality", 8)  # fmt: skip
    call("decode", tmp_path / "small", "--out-dir", tmp_path / "back", "--to", ".png")
    modes = {"rgb": "RGB", "grey": "L", "rgba": "RGBA", "photo": "RGB"}
    for name, mode in modes.items():
        back = Image.open(tmp_path / "back" / f"{name}.png")
        assert (back.size, back.mode) == ((67, 101), mode)
        assert psnr(np.asarray(back.convert("RGB")), original if mode != "L" else original[..., 1:2]) > 22
    assert np.asarray(Image.open(tmp_path / "back" / "rgba.png"))[..., 3].min() == 90
    facts = json.loads(call("info", tmp_path / "small" / "rgb.fsq", "--json").stdout)[0]
    assert (facts["kind"], facts["width"], facts["height"]) == ("picture", 67, 101)
    for suffix in (".jpg", ".webp", ".bmp", ".ppm", ".tiff"):
        call("decode", tmp_path / "small" / "rgba.fsq", tmp_path / f"x{suffix}")
        assert Image.open(tmp_path / f"x{suffix}").size == (67, 101)


def test_a_video_keeps_times_and_sound(clip: Path, tmp_path: Path) -> None:
    call("encode", clip, tmp_path / "c.fsq", "--quality", 6, "--effort", 0)
    for suffix in (".mp4", ".mkv"):
        back = tmp_path / f"back{suffix}"
        call("decode", tmp_path / "c.fsq", back)
        assert times_of(back) == pytest.approx(times_of(clip), abs=0.001 if suffix == ".mkv" else 1e-9)
        with av.open(str(back)) as container:
            sound = container.streams.audio[0]
            assert (sound.rate, sound.channels) == (44100, 2)
            assert sum(f.samples for f in container.decode(sound)) == pytest.approx(0.7 * 44100, abs=3000)
    facts = json.loads(call("info", tmp_path / "c.fsq", "--json").stdout)[0]
    assert (facts["kind"], facts["frames"], facts["sound"]) == ("video", 12, "speech-24k")
    assert facts["bytes"] == facts["overhead_bytes"] + facts["sound_bytes"] + sum(
        x["bytes"] for x in facts["layers"]
    )


def test_carried_sound_is_bit_identical(clip: Path, tmp_path: Path) -> None:
    call("encode", clip, tmp_path / "c.fsq", "--audio", "copy")
    call("decode", tmp_path / "c.fsq", tmp_path / "back.mp4")
    assert sound_packets(tmp_path / "back.mp4") == sound_packets(clip)
    call("encode", clip, tmp_path / "silent.fsq", "--audio", "none")
    call("decode", tmp_path / "silent.fsq", tmp_path / "silent.mkv")
    with av.open(str(tmp_path / "silent.mkv")) as container:
        assert not container.streams.audio


def test_bitrates_are_kept_and_layers_peel(clip: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(128, 160)).save(tmp_path / "p.png")
    call("encode", tmp_path / "p.png", tmp_path / "p.fsq", "--bpp", 0.4)
    assert (tmp_path / "p.fsq").stat().st_size * 8 / (128 * 160) <= 0.4
    call("encode", clip, tmp_path / "c.fsq", "--audio", "none", "--quality", 5)
    whole = json.loads(call("info", tmp_path / "c.fsq", "--json").stdout)[0]
    call("peel", tmp_path / "c.fsq", tmp_path / "low.fsq", "--kbps", 0.7 * whole["kbps"])
    low = json.loads(call("info", tmp_path / "low.fsq", "--json").stdout)[0]
    assert low["kbps"] <= 0.7 * whole["kbps"]
    call("decode", tmp_path / "low.fsq", tmp_path / "a.mkv")
    call("decode", tmp_path / "c.fsq", tmp_path / "b.mkv", "--kbps", 1.02 * low["kbps"])
    assert _frames(tmp_path / "a.mkv") == _frames(tmp_path / "b.mkv")
    call("encode", clip, tmp_path / "r.fsq", "--audio", "none", "--kbps", 0.8 * whole["kbps"])
    assert json.loads(call("info", tmp_path / "r.fsq", "--json").stdout)[0]["kbps"] <= 0.8 * whole["kbps"]


def _frames(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


def test_pipes(clip: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(40, 56)).save(tmp_path / "p.png")
    packed = call("encode", "-", "-", stdin=(tmp_path / "p.png").read_bytes()).stdout
    back = call("decode", "-", "-", stdin=packed).stdout
    assert back.startswith(b"\x89PNG")
    video = call("encode", "-", "-", "--audio", "none", stdin=clip.read_bytes()).stdout
    y4m = call("decode", "-", "-", stdin=video).stdout
    assert y4m.startswith(b"YUV4MPEG2 W80 H64 F150:7 ")  # that of the clip on average
    again = call("encode", "-", "-", stdin=y4m).stdout
    assert again.startswith(b"FSQC")


def test_a_pipe_keeps_the_sound(clip: Path, tmp_path: Path) -> None:
    call("encode", clip, tmp_path / "c.fsq", "--effort", 0)
    call("decode", tmp_path / "c.fsq", tmp_path / "file.mkv")
    call("decode", "-", tmp_path / "pipe.mkv", stdin=(tmp_path / "c.fsq").read_bytes())
    assert sound_packets(tmp_path / "pipe.mkv") == sound_packets(tmp_path / "file.mkv") != []


@pytest.mark.parametrize("suffix", [".y4m", ".avi"])
def test_formats_of_one_frame_rate_repeat_frames_and_say_so(tmp_path: Path, suffix: str) -> None:
    clip = [picture(32, 48, 5.0 * i) for i in range(5)]
    with (tmp_path / "v.mkv").open("wb") as target:
        writer = MovieWriter(target, ".mkv", 48, 32, Fraction(1, 600), Fraction(25), {})
        for frame, time in zip(clip, (0, 24, 48, 120, 144), strict=True):  # two frames are missing
            writer.write(frame, time)
        writer.close()
    call("encode", tmp_path / "v.mkv", tmp_path / "v.fsq")
    done = call("decode", tmp_path / "v.fsq", tmp_path / f"back{suffix}")
    assert b"2 frames were repeated and 0 left out" in b" ".join(done.stderr.split())
    with av.open(str(tmp_path / f"back{suffix}")) as container:
        assert container.streams.video[0].average_rate == 25
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 7
    steps = [float(np.abs(a.astype(int) - b).mean()) for a, b in itertools.pairwise(frames)]
    assert max(steps[2:4]) < 0.5 * min(
        steps[0], steps[1], steps[4], steps[5]
    )  # AVI repeats them but for rounding


def test_a_moving_gif_is_a_video_and_a_single_one_a_picture(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(40, 48, 4.0 * i)) for i in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(tmp_path / "one.gif")
    for name, kind in (("moving", "video"), ("one", "picture")):
        call("encode", tmp_path / f"{name}.gif", tmp_path / f"{name}.fsq")
        facts = json.loads(call("info", tmp_path / f"{name}.fsq", "--json").stdout)[0]
        assert (facts["kind"], facts["frames"]) == (kind, 3 if kind == "video" else 1)


def test_a_turned_video_stands_upright(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4", 2, size=(48, 80))
    with av.open(str(tmp_path / "in.mp4")) as source, av.open(str(tmp_path / "turned.mp4"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    call("encode", tmp_path / "turned.mp4", tmp_path / "t.fsq", "--quality", 8)
    call("decode", tmp_path / "t.fsq", tmp_path / "back.mkv")
    with av.open(str(tmp_path / "back.mkv")) as container:
        frame = next(container.decode(video=0))
        assert (frame.height, frame.width) == (80, 48)
        turned = [np.rot90(picture(48, 80), k) for k in (1, 3)]
        assert max(psnr(frame.to_ndarray(format="rgb24"), t) for t in turned) > 22


def test_errors_name_the_file_and_the_remedy(clip: Path, tmp_path: Path) -> None:
    call("encode", clip, tmp_path / "c.fsq", "--audio", "none")
    assert b"is a video" in call("decode", tmp_path / "c.fsq", tmp_path / "x.png", code=1).stderr
    Image.fromarray(picture(16, 16)).save(tmp_path / "p.png")
    call("encode", tmp_path / "p.png", tmp_path / "p.fsq")
    assert b"is a picture" in call("decode", tmp_path / "p.fsq", tmp_path / "x.mp4", code=1).stderr
    assert b"--overwrite" in call("encode", tmp_path / "p.png", tmp_path / "p.fsq", code=1).stderr
    call("encode", tmp_path / "p.png", tmp_path / "q.fsq", "--quality", 9, code=2)
    (tmp_path / "bad.png").write_bytes((tmp_path / "p.png").read_bytes()[:60])
    assert b"bad.png" in call("encode", tmp_path / "bad.png", tmp_path / "bad.fsq", code=1).stderr
    assert not (tmp_path / "bad.fsq").exists()


def test_a_part_of_a_video_begins_at_zero(clip: Path, tmp_path: Path) -> None:
    call("encode", clip, tmp_path / "c.fsq", "--quality", 3, "--effort", 0)
    call("encode", clip, tmp_path / "copy.fsq", "--quality", 3, "--audio", "copy", "--effort", 0)
    call("decode", tmp_path / "c.fsq", tmp_path / "whole.mkv")
    whole = [float(t) for t in times_of(tmp_path / "whole.mkv")]
    wanted = [t - 0.1 for t in whole if 0.1 <= t - whole[0] < 0.25]
    for name in ("c", "copy"):
        call("decode", tmp_path / f"{name}.fsq", tmp_path / f"{name}.mkv", "--start", 0.1, "--duration", 0.15)
        assert [float(t) for t in times_of(tmp_path / f"{name}.mkv")] == pytest.approx(wanted, abs=0.002)
        with av.open(str(tmp_path / f"{name}.mkv")) as container:
            sound = container.streams.audio[0]
            samples = sum(frame.samples for frame in container.decode(sound))
            assert samples / sound.rate == pytest.approx(0.15, abs=0.001 if name == "c" else 0.06)
    done = call("decode", tmp_path / "c.fsq", tmp_path / "late.mkv", "--start", 60, code=1)
    assert b"no frame from 60 s on" in done.stderr
    assert not (tmp_path / "late.mkv").exists()


def test_info_counts_the_bits_of_every_frame(clip: Path, tmp_path: Path) -> None:
    call("encode", clip, tmp_path / "c.fsq", "--quality", 4, "--audio", "none")
    facts = json.loads(call("info", tmp_path / "c.fsq", "--frames", "--json").stdout)[0]
    layers = sum(layer["bytes"] for layer in facts["layers"][1:])
    assert len(facts["frame_bits"]) == 12
    assert sum(facts["frame_bits"]) / 8 == pytest.approx(layers, rel=0.01, abs=30)
    assert b"bits of frames" in call("info", tmp_path / "c.fsq", "--frames").stdout


@pytest.mark.xdist_group("machine")
def test_memory_does_not_grow_with_a_video(tmp_path: Path) -> None:
    peaks = {}
    for frames in (50, 450):
        write_video(tmp_path / f"{frames}.mp4", frames, size=(64, 96))
        for work, command in {
            "encode": ("encode", tmp_path / f"{frames}.mp4", tmp_path / f"{frames}.fsq", "--quality", 2, "--audio", "none"),
            "decode": ("decode", tmp_path / f"{frames}.fsq", tmp_path / f"{frames}.mkv"),
        }.items():  # fmt: skip
            code = (
                "import resource, sys; from fsqcodec.cli.main import main\n"
                "try: main(sys.argv[1:])\n"
                "except SystemExit as end: assert not end.code, end.code\n"
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, *map(str, command)], capture_output=True, check=True
            )
            peaks[work, frames] = int(done.stdout)
    for work in ("encode", "decode"):
        assert peaks[work, 450] < 1.05 * peaks[work, 50]


@pytest.mark.parametrize(
    ("suffix", "matrix", "full"),
    [(".mkv", 1, False), (".mp4", 9, True), (".mov", 6, False), (".mkv", 0, True)],
)
def test_colours_stay_what_they_were(tmp_path: Path, suffix: str, matrix: int, full: bool) -> None:
    """Matrix and range of the original are those of what comes back, and no conversion makes a picture darker."""
    colours, original = Colours(matrix, full), picture(96, 128)
    with (tmp_path / f"in{suffix}").open("wb") as target:
        writer = MovieWriter(target, suffix, 128, 96, Fraction(1, 25), Fraction(25), {}, colours)
        for time in range(4):
            writer.write(original, time)
        writer.close()
    with FrameReader(tmp_path / f"in{suffix}") as reader:
        assert reader.facts.colours == colours
        read = next(iter(reader)).picture
    assert np.abs(read.astype(float).mean((0, 1)) - original.mean((0, 1))).max() < 1
    call("encode", tmp_path / f"in{suffix}", tmp_path / "c.fsq", "--quality", 8)
    call("decode", tmp_path / "c.fsq", tmp_path / f"out{suffix}")
    with FrameReader(tmp_path / f"out{suffix}") as reader:
        assert reader.facts.colours == colours
        back = next(iter(reader)).picture
    assert np.abs(back.astype(float).mean((0, 1)) - original.mean((0, 1))).max() < 3


def test_sound_of_many_seconds_goes_with_a_video(tmp_path: Path) -> None:
    """Packets of sound are longer than groups of pictures, and keep all their layers when the pictures lose some."""
    write_video(tmp_path / "in.mp4", 40, size=(32, 48), times=[78 * i for i in range(40)], sound=5.2)
    call("encode", tmp_path / "in.mp4", tmp_path / "c.fsq", "--quality", 8, "--effort", 0)
    size = (tmp_path / "c.fsq").stat().st_size
    call("peel", tmp_path / "c.fsq", tmp_path / "low.fsq", "--kbps", 8)
    assert (tmp_path / "low.fsq").stat().st_size < size
    for name in ("c", "low"):
        call("decode", tmp_path / f"{name}.fsq", tmp_path / f"{name}.mkv")
        with av.open(str(tmp_path / f"{name}.mkv")) as container:
            assert sum(f.samples for f in container.decode(audio=0)) == pytest.approx(5.2 * 44100, abs=3000)
        assert len(times_of(tmp_path / f"{name}.mkv")) == 40
