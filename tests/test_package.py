"""The wheel in a fresh environment, and the documentation's examples."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import fsqcodec
import pytest
from conftest import SPEECH

ROOT = Path(__file__).parent.parent


def test_a_wheel_encodes_and_decodes(tmp_path: Path) -> None:
    run = {"check": True, "capture_output": True, "text": True}
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, **run)  # type: ignore[call-overload]
    (wheel,) = tmp_path.glob("fsqcodec-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], **run)  # type: ignore[call-overload]
    folder = "Scripts" if sys.platform == "win32" else "bin"
    python = tmp_path / "venv" / folder / "python"
    subprocess.run([python, "-m", "pip", "install", "--no-deps", "--quiet", str(wheel)], **run)  # type: ignore[call-overload]
    # Dependencies come from this environment: the heavy ones need not be installed twice.
    site = next((tmp_path / "venv").rglob("site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    place = subprocess.run([python, "-c", "import fsqcodec; print(fsqcodec.__file__)"], cwd=tmp_path, **run)  # type: ignore[call-overload]
    assert str(tmp_path) in place.stdout
    command = tmp_path / "venv" / folder / "fsqcodec"
    subprocess.run([command, "encode", SPEECH, "x.fsq"], cwd=tmp_path, **run)  # type: ignore[call-overload]
    subprocess.run([command, "decode", "x.fsq", "x.wav"], cwd=tmp_path, **run)  # type: ignore[call-overload]
    assert (tmp_path / "x.wav").stat().st_size > 90000


@pytest.mark.parametrize("module", ["fsqcodec.fsq", "fsqcodec.residual", "fsqcodec.codec"])
def test_doc_examples(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed


def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert snippets
    monkeypatch.chdir(ROOT)
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), {})


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


def test_ruff_and_mypy_are_clean() -> None:
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]
