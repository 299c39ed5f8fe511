"""Counts the files of the project that a command touches: how far somebody walks who follows it through the code.

    python tests/count_files.py                                        # the two walks that have a limit
    python tests/count_files.py encode in.wav out.fsq --effort 0       # any other command

A file counts when one of its functions is called while the command runs, in any thread; importing it does not count, nor do
calls that its import makes. Functions that numba compiles count by what they were compiled for. Lambdas and comprehensions
belong to the function around them.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from helpers import ROOT, SPEECH

Walk = dict[str, list[str]]
"""Names of the functions called, by file of the project (relative to its root)."""

FOLDERS = ("codec", "train", "cli", "checkpoints")


def trace(work: Callable[[], object]) -> Walk:
    """Do some work and tell which functions of the project it called."""
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        """Is told of calls only: it gives no tracer for the lines within."""
        code = frame.f_code
        function = code.co_flags & inspect.CO_OPTIMIZED  # not the body of a module or class
        if function and code not in codes and _file(code.co_filename) and not _imports(frame):
            codes.add(code)

    threading.settrace(note)
    sys.settrace(note)
    try:
        work()
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
    return _by_file(codes | _compiled())


@cache
def _file(name: str) -> str | None:
    """A file of the project relative to its root."""
    path = Path(name).resolve()
    inside = path.is_relative_to(ROOT) and path.relative_to(ROOT)
    return inside.as_posix() if inside and inside.parts[0] in FOLDERS else None


def _imports(frame: FrameType | None) -> bool:
    """Whether a module of the project is being imported, and made this call."""
    while frame:
        if frame.f_code.co_name == "<module>" and _file(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False


def _compiled() -> set[CodeType]:
    """Functions that numba compiled or took from its cache, because they were called."""
    return {
        value.py_func.__code__
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "fsqcodec"
        for value in vars(module).values()
        if getattr(value, "signatures", None) and hasattr(value, "py_func")
    }


def _by_file(codes: set[CodeType]) -> Walk:
    walk: defaultdict[str, list[str]] = defaultdict(list)
    for code in codes:
        if not code.co_name.startswith("<"):
            walk[_file(code.co_filename) or ""].append(code.co_qualname)
    return {file: sorted(names) for file, names in sorted(walk.items())}


def command(*arguments: object) -> Walk:
    """The walk of one command, in a process of its own: nothing is loaded yet."""
    done = subprocess.run(
        [sys.executable, __file__, "--json", *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    walk: Walk = json.loads(done.stdout.splitlines()[-1])
    return walk


def encode_sound(folder: Path) -> Walk:
    """The walk of encoding a recording without search."""
    return command("encode", SPEECH, folder / "out.fsq", "--effort", 0)


def decode_video(folder: Path) -> Walk:
    """The walk of decoding a short clip with sound."""
    from helpers import call
    from media import write_video

    write_video(folder / "clip.mp4", 4, size=(48, 64), sound=0.3)
    call("encode", folder / "clip.mp4", folder / "clip.fsq", "--effort", 0)
    return command("decode", folder / "clip.fsq", folder / "back.mp4")


def _run(arguments: list[str]) -> None:
    from fsqcodec.cli.main import main

    try:
        main(arguments)
    except SystemExit as end:
        if end.code:
            raise


def show(title: str, walk: Walk) -> None:
    """Print a walk."""
    print(f"{title}: {len(walk)} files, {sum(map(len, walk.values()))} functions")
    for file, names in walk.items():
        print(f"  {file}: {', '.join(names)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--json"]:
        print(json.dumps(trace(lambda: _run(sys.argv[2:]))))
    elif len(sys.argv) > 1:
        show(" ".join(sys.argv[1:]), trace(lambda: _run(sys.argv[1:])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            show("encode in.wav out.fsq --effort 0", encode_sound(Path(folder)))
            show("decode clip.fsq back.mp4", decode_video(Path(folder)))
