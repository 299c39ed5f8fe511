"""Where things lie, and what several tests call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import warm

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
DATA = TESTS / "data"
GOLDEN = TESTS / "golden"
SPEECH = DATA / "arctic_a0009.wav"

CALL = [sys.executable, "-m", "fsqcodec.cli.main"]


def run_command(
    *arguments: object, stdin: bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process of its own."""
    given = [str(argument) for argument in arguments]
    if sys.platform == "linux":  # elsewhere forks and libraries do not go together
        return warm.run(given, stdin, cwd)
    return subprocess.run([*CALL, *given], input=stdin, capture_output=True, cwd=cwd)


def call(*arguments: object, stdin: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
    """Run the command line; assert that it ends by `code` and without a traceback."""
    done = run_command(*arguments, stdin=stdin)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done


RECIPE = """
out: {out}
seed: 3
data:
  crop: 0.2
  cache: {cache}
  workers: 0
  sources: [{{path: {speech}}}]
model: {{fine_channels: 32, coarse_channels: 32, encoder_blocks: [1, 1], decoder_blocks: [1, 1], groups: 4, stages: 6}}
optim: {{steps: {steps}, batch: 4, warmup: 5, lr: 0.005, ema: 0.9}}
loss: {{waveform: [1, 1], spectrum: [1, 1], mel: [1, 1], loudness: [0, 0], disturbance: [0, 0], similarity: [0, 0], harmonics: [0, 0], rumble: [0, 0]}}
log_every: 1
save_minutes: 60
mixed_precision: "no"
threads: 1
"""


def write_recipe(folder: Path, steps: int = 30) -> Path:
    """The recipe of a short run of a small network into `folder / "run"`; it saves at its end only."""
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(out=folder / "run", cache=folder / "cache", speech=SPEECH, steps=steps))
    return path
