"""The examples of the docs run, learn something, and write sound."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from helpers import DATA, ROOT, call

pytestmark = pytest.mark.xdist_group("examples")

EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("examples") / "shards"
    call("corpus", "tokenize", DATA / "arctic_a0009.wav", "--out", out, "--stages", 4)
    return out


@pytest.mark.parametrize(
    ("name", "written"), [("maskgit", ["original", "missing", "filled"]), ("autoregressive", ["spoken"])]
)
def test_example(name: str, written: list[str], shards: Path, tmp_path: Path) -> None:
    out = tmp_path if len(written) > 1 else tmp_path / f"{written[0]}.wav"
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), str(shards), "--steps", "21", "--out", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    bits = [float(found) for found in re.findall(r"step \d+: (\S+) bits", done.stdout)]
    assert bits[-1] < bits[0] - 1
    for file in written:
        assert soundfile.info(str(tmp_path / f"{file}.wav")).duration > 0.9
