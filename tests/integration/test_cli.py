"""The command line as its users meet it, mostly in processes of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsqcodec
import numpy as np
import pytest
import soundfile
import typer
from fsqcodec.bitstream.reader import Reader
from fsqcodec.bitstream.writer import PACKET_SECONDS
from fsqcodec.cli import common
from fsqcodec.files.outcome import Outcome
from fsqcodec.media.audio import AudioFacts, AudioReader, AudioWriter
from helpers import CALL, SPEECH, call, run_command


@pytest.fixture(scope="module")
def fsq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("fsq") / "speech.fsq"
    call("encode", SPEECH, target, "--effort", 0)
    return target


def test_encode_info_peel_decode(fsq: Path, tmp_path: Path) -> None:
    facts = json.loads(call("info", fsq, "--json").stdout)[0]
    assert facts["packet_seconds"] == PACKET_SECONDS
    original = soundfile.info(str(SPEECH))
    assert (facts["sample_rate"], facts["samples"]) == (original.samplerate, original.frames)
    assert (
        facts["bytes"]
        == fsq.stat().st_size
        == facts["overhead_bytes"] + sum(x["bytes"] for x in facts["layers"])
    )
    assert facts["complete"]
    call("peel", fsq, tmp_path / "small.fsq", "--kbps", 3)
    small = json.loads(call("info", tmp_path / "small.fsq", "--json").stdout)[0]
    assert small["kbps"] <= 3
    assert small["layers"] == [] or len(small["layers"]) < len(facts["layers"])
    assert "stages" in call("info", fsq).stdout.decode()
    for source, extra in ((fsq, ()), (fsq, ("--kbps", 1.5)), (tmp_path / "small.fsq", ())):
        call("decode", source, tmp_path / "back.wav", "--overwrite", *extra)
        back = soundfile.info(str(tmp_path / "back.wav"))
        assert (back.samplerate, back.frames, back.subtype) == (16000, original.frames, "PCM_16")


def test_decoding_fewer_layers_equals_decoding_the_peeled_file(fsq: Path, tmp_path: Path) -> None:
    call("peel", fsq, tmp_path / "p.fsq", "--kbps", 4)
    rate = json.loads(call("info", tmp_path / "p.fsq", "--json").stdout)[0]["kbps"]
    call("decode", tmp_path / "p.fsq", tmp_path / "a.wav")
    call("decode", fsq, tmp_path / "b.wav", "--kbps", rate + 0.15)
    a, b = (soundfile.read(tmp_path / name)[0] for name in ("a.wav", "b.wav"))
    assert np.array_equal(a, b)


def test_a_part_is_the_same_as_in_the_whole(tmp_path: Path) -> None:
    audio, rate = soundfile.read(SPEECH, dtype="float32")
    soundfile.write(tmp_path / "long.wav", np.tile(audio, 5), rate)
    call("encode", tmp_path / "long.wav", tmp_path / "long.fsq", "--effort", 0)
    call("decode", tmp_path / "long.fsq", tmp_path / "whole.wav")
    data, stretch = (tmp_path / "long.fsq").read_bytes(), ("--start", 9.5, "--duration", 2)
    call("decode", tmp_path / "long.fsq", tmp_path / "part.wav", *stretch)
    call("decode", "-", tmp_path / "piped.wav", *stretch, stdin=data)
    names = ("whole.wav", "part.wav", "piped.wav")
    whole, part, piped = (soundfile.read(tmp_path / name)[0] for name in names)
    expected = whole[round(9.5 * rate) : round(11.5 * rate)]
    assert len(part) == len(piped) == len(expected)
    # The decoder's state comes from one packet before, not from the beginning; a pipe has to be read from there on.
    assert np.abs(part - expected).max() < 0.02
    assert np.abs(piped - expected).max() < 1e-9
    call("decode", tmp_path / "long.fsq", tmp_path / "none.wav", "--start", 99, code=1)


def test_pipes_in_both_directions(fsq: Path) -> None:
    data = call("encode", "-", "-", "--effort", 0, stdin=SPEECH.read_bytes()).stdout
    assert data[:4] == b"FSQC"
    assert data == fsq.read_bytes()
    wav = call("decode", "-", "-", stdin=data).stdout
    assert wav[:4] == b"RIFF"
    assert json.loads(call("info", "-", "--json", stdin=data).stdout)[0]["complete"]


@pytest.mark.parametrize("kind", ["int16", "int24", "float32"])
def test_sample_formats(fsq: Path, tmp_path: Path, kind: str) -> None:
    call("decode", fsq, tmp_path / "x.wav", "--sample-format", kind)
    assert (
        soundfile.info(str(tmp_path / "x.wav")).subtype
        == {"int16": "PCM_16", "int24": "PCM_24", "float32": "FLOAT"}[kind]
    )


def test_folders_keep_their_tree_and_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.wav", "deep/b.wav"):
        (tmp_path / "in" / name).write_bytes(SPEECH.read_bytes())
    (tmp_path / "in" / "broken.wav").write_bytes(b"no audio at all")
    (tmp_path / "in" / "notes.txt").write_text("not media")
    done = call("encode", tmp_path / "in", "--out-dir", tmp_path / "out", "--jobs", 2, "--effort", 0, code=1)
    assert b"broken.wav" in done.stderr
    assert b"1 of 3 files failed" in done.stderr
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()} == {
        "a.fsq",
        "deep/b.fsq",
    }
    call("decode", tmp_path / "out", "--out-dir", tmp_path / "back", "--to", "flac")
    assert (
        soundfile.info(str(tmp_path / "back" / "deep" / "b.flac")).frames
        == soundfile.info(str(SPEECH)).frames
    )
    call("encode", str(tmp_path / "in" / "*.wav"), "--out-dir", tmp_path / "globbed", "--effort", 0, code=1)
    assert (tmp_path / "globbed" / "a.fsq").exists()


def test_tags_survive(tmp_path: Path) -> None:
    with AudioReader(SPEECH) as reader, (tmp_path / "tagged.flac").open("wb") as out:
        writer = AudioWriter(out, ".flac", AudioFacts(16000, 1, {"title": "Größe", "artist": "Ann"}))
        writer.write(reader.read())
        writer.close()
    call("encode", tmp_path / "tagged.flac", tmp_path / "t.fsq", "--kbps", 2, "--effort", 0)
    call("decode", tmp_path / "t.fsq", tmp_path / "t.m4a")
    with AudioReader(tmp_path / "t.m4a") as reader:
        assert reader.facts.tags == {"title": "Größe", "artist": "Ann"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["encode", "missing.wav", "x.fsq"], 1, "missing.wav: no such file or directory; check the name"),
        (["encode", "{rubbish}", "x.fsq"], 1, "rubbish.wav: cannot be read as a media file"),
        (["decode", "{speech}", "x.wav"], 1, "not an .fsq file"),
        (["decode", "{fsq}", "x.xyz"], 1, ".xyz: cannot be written; use one of"),
        (["decode", "{fsq}", "{fsq}"], 1, "exists already; --overwrite"),
        (["decode", "{fsq}", "x.wav", "--model", "other"], 1, "other: no such model; shipped are speech-24k"),
        (["encode", "a", "b", "c"], 2, "--out-dir"),
        (["encode"], 2, "Missing argument"),
        (["encode", "a", "b", "--kbps", "-3"], 2, "kbps"),
        (["decode", "{fsq}", "x.wav", "--sample-format", "int3"], 2, "int3"),
        (["train", "missing.yaml"], 1, "missing.yaml: no such file; shipped recipes are"),
    ],
)
def test_mistakes_are_one_line_with_a_remedy(
    fsq: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, says: str
) -> None:
    (tmp_path / "rubbish.wav").write_bytes(os.urandom(1000))
    names = {"rubbish": tmp_path / "rubbish.wav", "speech": SPEECH, "fsq": fsq}
    monkeypatch.setenv("COLUMNS", "200")
    done = run_command(*(a.format(**names) for a in arguments), cwd=tmp_path)
    errors = done.stderr.decode()
    assert done.returncode == code, errors
    assert says in errors
    assert "Traceback" not in errors
    if code == 1:
        assert errors.count("\n") == 1
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(("x.", "."))]


def test_a_missing_extra_is_named() -> None:
    code = "import sys; sys.modules['accelerate'] = None; from fsqcodec.cli.main import main; main(['train', 'x'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "accelerate is not installed; pip install 'fsqcodec[bench]'" in " ".join(done.stderr.split())


def test_keep_going_decodes_what_is_left(fsq: Path, tmp_path: Path) -> None:
    call("encode", SPEECH, tmp_path / "whole.fsq", "--packet", 0.5, "--effort", 0)
    (tmp_path / "cut.fsq").write_bytes((tmp_path / "whole.fsq").read_bytes()[:-400])
    done = call("decode", tmp_path / "cut.fsq", tmp_path / "x.wav", "--keep-going")
    assert b"lost" in done.stderr
    assert 0 < soundfile.info(str(tmp_path / "x.wav")).frames < soundfile.info(str(SPEECH)).frames
    (tmp_path / "head.fsq").write_bytes(fsq.read_bytes()[:60])
    call("decode", tmp_path / "head.fsq", tmp_path / "y.wav", "--keep-going")
    assert soundfile.info(str(tmp_path / "y.wav")).frames == 0


@pytest.mark.parametrize("at", ["inside a packet", "between packets"])
def test_a_cut_file_gives_what_is_there_and_says_so(fsq: Path, tmp_path: Path, at: str) -> None:
    call("encode", SPEECH, tmp_path / "whole.fsq", "--packet", 0.5, "--effort", 0)
    data = (tmp_path / "whole.fsq").read_bytes()
    fourth = list(Reader(io.BytesIO(data)))[3].offset
    (tmp_path / "cut.fsq").write_bytes(data[: fourth + 30 * (at == "inside a packet")])
    arguments = [*CALL, "decode", tmp_path / "cut.fsq", tmp_path / "x.wav", "-y"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / 'cut.fsq'}: byte" in done.stderr
    assert "s are missing" in done.stderr
    frames = soundfile.info(str(tmp_path / "x.wav")).frames
    assert 0.9 < frames / (1.5 * 16000) <= 1
    done = subprocess.run([*arguments, "--keep-going"], capture_output=True, text=True)
    assert done.returncode == 0
    assert soundfile.info(str(tmp_path / "x.wav")).frames == frames
    with pytest.raises(fsqcodec.BitstreamError, match="missing"):
        fsqcodec.load_audio().from_bytes((tmp_path / "cut.fsq").read_bytes())


def test_one_file_that_fails_for_any_reason_costs_itself_only(
    fsq: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail_on_one(task: common.Task, _: object) -> Outcome:
        if task.source == "b":
            raise RuntimeError("something nobody thought of")
        return Outcome("done")

    with pytest.raises(typer.Exit):
        common.run([common.Task(name, "x") for name in "abc"], fail_on_one, {}, 1, False, True)
    told = capfd.readouterr().err
    assert told.count("done") == 2
    assert "b: RuntimeError: something nobody thought of" in " ".join(told.split())


@pytest.mark.xdist_group("machine")
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    with (tmp_path / "long.wav").open("wb") as out:
        writer = AudioWriter(out, ".wav", AudioFacts(24000, 1))
        for _ in range(30):
            writer.write(np.random.default_rng(0).uniform(-0.1, 0.1, (1, 24000 * 60)).astype(np.float32))
        writer.close()
    work = subprocess.Popen(
        [*CALL, "encode", str(tmp_path / "long.wav"), str(tmp_path / "x.fsq")],
        stderr=subprocess.PIPE,
        # A test run in the background of a shell ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not any(p.name.endswith(".part") for p in tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    work.send_signal(signal.SIGINT)
    _, errors = work.communicate(timeout=60)
    assert work.returncode not in (0, None)
    assert b"Traceback" not in errors
    assert [p.name for p in tmp_path.iterdir()] == ["long.wav"]


def test_help_does_not_wait_for_torch() -> None:
    def seconds(*arguments: str) -> float:
        best = 1e9
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            best = min(best, time.perf_counter() - started)
        return best

    code = "import sys; sys.argv = ['fsqcodec', '--help']\nimport runpy\ntry: runpy.run_module('fsqcodec.cli.main', run_name='__main__')\nexcept SystemExit: pass\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    for command in ("encode", "decode", "peel", "info", "models", "train", "bench"):
        assert command in call("--help").stdout.decode()
        assert len(call(command, "--help").stdout) > 300


def test_models_tell_their_provenance() -> None:
    shown = json.loads(call("models", "--json").stdout)["speech-24k"]
    assert shown["config"]["sample_rate"] == 24000
    assert shown["train"]["steps"] > 0
    assert "speech-24k" in call("models").stdout.decode()
