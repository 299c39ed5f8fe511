"""Peak memory and speed of whole commands, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fsqcodec.errors import FSQCodecError
from fsqcodec.media.audio import AudioFacts, AudioWriter

from .rows import Row, Signal

_MINUTES = (1, 60)


def file_to_file(command: Sequence[str], model: str, minute: Signal, sample_rate: int) -> list[Row]:
    """Peak MB and times real time of encoding and decoding 1 and 60 minutes, and the growth between them.

    Args:
        command: the command line of `fsqcodec`.
        model: name or file of a model for sound.
        minute: a minute of sound, which is repeated.
        sample_rate: Hz of it.

    Raises:
        FSQCodecError: a command failed.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        wav, fsq, back = (str(Path(folder) / name) for name in ("in.wav", "x.fsq", "back.wav"))
        for minutes in _MINUTES:
            _write(Path(wav), minute, sample_rate, minutes)
            row: Row = {"minutes": minutes}
            for key, call in (("encode", ["encode", wav, fsq]), ("decode", ["decode", fsq, back])):
                started = time.monotonic()
                row[f"{key}_MB"] = _peak([*command, *call, "--model", model, "--overwrite", "--quiet"])
                row[f"{key}_x_real_time"] = minutes * 60 / (time.monotonic() - started)
            rows.append(row)
    growth = {key: rows[1][key] / rows[0][key] for key in ("encode_MB", "decode_MB")}
    return [*rows, {"minutes": "ratio", **growth}]


def _write(path: Path, minute: Signal, sample_rate: int, minutes: int) -> None:
    """A wav file of any length, written block by block."""
    with path.open("wb") as out:
        writer = AudioWriter(out, ".wav", AudioFacts(sample_rate, 1))
        for _ in range(minutes):
            writer.write(minute[None])
        writer.close()


def _peak(command: list[str]) -> float:
    """Peak resident MB of a command, as the system counts it for a child process."""
    code = (
        "import resource, subprocess, sys;"
        "done = subprocess.run(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss);"
        "sys.exit(done.returncode)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise FSQCodecError(f"{' '.join(command)}: failed")
    return int(done.stdout) / (1024 if sys.platform != "darwin" else 1024**2)
