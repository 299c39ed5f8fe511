"""The wheel in a fresh environment, and the documentation's examples."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import fsqcodec
import numpy as np
import pytest
import torch
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.tokens import Encoded
from helpers import ROOT, SPEECH
from media import picture
from PIL import Image


def call(*command: object, cwd: Path | None = None) -> str:
    # Threads as a user has them, and no package but those of the environment.
    environment = {
        key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "PYTHONPATH")
    }
    done = subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True, cwd=cwd, env=environment
    )
    return done.stdout


def fresh_environment(folder: Path) -> Path:
    """A virtual environment with the wheel in it; returns its folder of programs.

    Dependencies that it does not install come from this environment: the heavy ones need not be there twice.
    """
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", folder, ROOT)
    (wheel,) = folder.glob("fsqcodec-*.whl")
    call(sys.executable, "-m", "venv", folder / "venv")
    programs = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    call(programs / "python", "-m", "pip", "install", "--no-deps", "--quiet", wheel)
    site = next((folder / "venv").rglob("site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def test_a_wheel_encodes_and_decodes(tmp_path: Path) -> None:
    programs = fresh_environment(tmp_path)
    place = call(programs / "python", "-c", "import fsqcodec; print(fsqcodec.__file__)", cwd=tmp_path)
    assert str(tmp_path) in place
    call(programs / "fsqcodec", "encode", SPEECH, "x.fsq", "--effort", "0", cwd=tmp_path)
    call(programs / "fsqcodec", "decode", "x.fsq", "x.wav", cwd=tmp_path)
    assert (tmp_path / "x.wav").stat().st_size > 90000
    Image.fromarray(picture(40, 50)).save(tmp_path / "p.png")
    call(programs / "fsqcodec", "encode", "p.png", "p.fsq", cwd=tmp_path)
    call(programs / "fsqcodec", "decode", "p.fsq", "back.png", cwd=tmp_path)
    assert Image.open(tmp_path / "back.png").size == (50, 40)


@pytest.mark.slow
def test_another_torch_writes_the_same_bytes_and_reads_the_same_tokens(
    codec: NeuralAudioCodec, encoded: Encoded, tmp_path: Path
) -> None:
    programs = fresh_environment(tmp_path)
    install = (programs / "python", "-m", "pip", "install", "--no-deps", "--quiet")
    try:
        call(*install, "torch==2.13.0" if not torch.__version__.startswith("2.13") else "torch==2.12.0")
    except subprocess.CalledProcessError:
        pytest.skip("no other torch can be installed")
    np.save(tmp_path / "tokens.npy", encoded.tokens)
    (tmp_path / "mine.fsq").write_bytes(codec.to_bytes(encoded))
    script = (
        "import sys, numpy as np, torch, fsqcodec; from pathlib import Path;"
        "codec, tokens = fsqcodec.load(), np.load('tokens.npy');"
        f"made = fsqcodec.Encoded(tokens, 24000, {encoded.samples});"
        "Path('theirs.fsq').write_bytes(codec.to_bytes(made));"
        "assert (codec.from_bytes(Path('mine.fsq').read_bytes()).tokens == tokens).all();"
        "print(torch.__version__)"
    )
    version = call(programs / "python", "-c", script, cwd=tmp_path)
    assert version.strip() != torch.__version__
    assert (tmp_path / "theirs.fsq").read_bytes() == (tmp_path / "mine.fsq").read_bytes()


@pytest.mark.parametrize(
    "module",
    [
        "fsqcodec.quantization.fsq",
        "fsqcodec.quantization.residual_fsq",
        "fsqcodec.protocols",
        "fsqcodec.live.encoder",
        "fsqcodec.live.batch",
    ],
)
def test_doc_examples(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed


def test_public_names_exist() -> None:
    for name in fsqcodec.__all__:
        assert getattr(fsqcodec, name)
    with pytest.raises(AttributeError):
        fsqcodec.no_such_name  # noqa: B018


def test_codec_imports_neither_trainer_nor_command_line() -> None:
    for file in (ROOT / "codec").rglob("*.py"):
        assert not re.search(
            r"^\s*(from|import) .*(fsqcodec|\.\.)?\.(train|cli)\b", file.read_text(), re.MULTILINE
        ), file


@pytest.mark.xdist_group("machine")
def test_style_and_types_are_clean() -> None:
    programs = Path(sysconfig.get_path("scripts"))
    commands: list[list[str | Path]] = [
        [programs / "ruff", "check"],
        [programs / "ruff", "format", "--check"],
    ]
    if sys.platform != "win32":
        commands.append([ROOT / ".ci" / "typecheck"])
    environment = {**os.environ, "MYPY": str(programs / "mypy")}
    for command in commands:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout[-2000:]
