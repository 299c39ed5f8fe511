"""Runs commands in processes that need not load the libraries: one process loads them, and every command is a fork of it.

More than half of what a short command takes is importing torch. Nothing of the project is loaded before the fork, so that a
command imports what it needs itself, as in a process of its own. Requests come as lines of JSON, answers are exit codes.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path


def run(
    arguments: list[str], stdin: bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line with the environment of this process; what it printed and its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        files[0].write_bytes(stdin)
        request = (arguments, dict(os.environ), str(cwd or Path.cwd()), [str(file) for file in files])
        server = _server()
        assert server.stdin
        assert server.stdout
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, files[1].read_bytes(), files[2].read_bytes())


@cache
def _server() -> subprocess.Popen[str]:
    """It ends when its input does, with this process."""
    return subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _become(arguments: list[str], environment: dict[str, str], cwd: str, files: list[str]) -> None:
    """Make this process one that was started with these."""
    for number, (file, flags) in enumerate(
        zip(files, (os.O_RDONLY, *2 * (os.O_WRONLY | os.O_CREAT,)), strict=True)
    ):
        descriptor = os.open(file, flags)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv[1:] = arguments


def _serve() -> None:
    import av
    import numba
    import soundfile
    import torch

    del sys.path[0]  # this folder, which a command does not look into
    assert all((av, numba, soundfile, torch))
    gc.freeze()  # what is there is not looked through, and so not copied, by any fork
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(*json.loads(line))
            runpy.run_module("fsqcodec.cli.main", run_name="__main__", alter_sys=True)
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
