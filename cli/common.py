"""What the commands share: inputs and outputs, atomic files, progress, errors in one line."""

from __future__ import annotations

import errno
import glob
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from fsqcodec.errors import FSQCodecError, MediaError
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from fsqcodec.audio.codec import NeuralAudioCodec
    from fsqcodec.files.outcome import Outcome
    from fsqcodec.visual.codec import NeuralVisualCodec

console = Console(stderr=True, highlight=False)

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT... OUTPUT",
        help="INPUT OUTPUT, or any number of files, folders and globs with --out-dir; - is a pipe.",
    ),
]
OutDir = Annotated[Path | None, typer.Option(help="Write here, keeping the folders' tree.")]
Model = Annotated[str, typer.Option(help="A shipped model's name, or a .safetensors file.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", "-y", help="Replace files that exist.")]
Jobs = Annotated[int, typer.Option(min=1, help="Files worked on at once, a process each.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what each file became.")]


def percent(text: str | float) -> float:
    """A share in per cent, 0 … 90, with or without its sign.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        value = float(str(text).removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 90:
        raise typer.BadParameter(f"{text!r} is not a share of 0 to 90 %")
    return value


Loss = Annotated[
    float,
    typer.Option(parser=percent, metavar="PERCENT", help="Share of the packets that are lost, such as 5%."),
]
Engine = Annotated[
    str, typer.Option(help="What runs the networks: torch, or onnx (faster for short packets).")
]
PictureModel = Annotated[str, typer.Option(help="Model for pictures and video.")]
DEFAULT_MODEL, DEFAULT_PICTURE_MODEL = "speech-24k", "visual"


def fail(message: str) -> int:
    """Say an error in one line and return exit code 1."""
    console.print(f"[red]error:[/red] {escape(' '.join(message.split()))}", soft_wrap=True, markup=True)
    return 1


@dataclass(frozen=True)
class Task:
    """One file to read and the one to write; `-` is standard input or output."""

    source: str
    target: str


def plan(
    arguments: list[str], out_dir: Path | None, suffix: str, accepted: Callable[[Path], bool]
) -> list[Task]:
    """Pairs of input and output.

    Args:
        arguments: INPUT OUTPUT, one INPUT (its output lies beside it), or inputs with `out_dir`.
        out_dir: folder of the outputs; the tree below an input folder is kept.
        suffix: extension of outputs that are not named.
        accepted: which files of a folder are taken.

    Raises:
        typer.BadParameter: the arguments do not fit together.
        MediaError: an input does not exist, or two inputs would become one output.
    """
    if out_dir is None:
        if len(arguments) == 2:
            return [Task(*arguments)]
        if len(arguments) == 1 and arguments[0] != "-" and not Path(arguments[0]).is_dir():
            return [Task(arguments[0], str(Path(arguments[0]).with_suffix(suffix)))]
        raise typer.BadParameter("give INPUT OUTPUT, or several inputs with --out-dir FOLDER")
    tasks: dict[str, Task] = {}
    for argument in arguments:
        root = Path(argument)
        if root.is_dir():
            found = [
                (file, file.relative_to(root))
                for file in sorted(root.rglob("*"))
                if file.is_file() and accepted(file)
            ]
        elif root.exists():
            found = [(root, Path(root.name))]
        else:
            found = [
                (Path(name), Path(Path(name).name)) for name in sorted(glob.glob(argument, recursive=True))
            ]
        if not found and root.is_dir():
            raise MediaError(f"{argument}: no files in it that this takes; name another folder")
        if not found:
            raise MediaError(f"{argument}: no such file or folder, and no match; check the name")
        for file, relative in found:
            target = str(out_dir / relative.with_suffix(suffix))
            if target in tasks:
                raise MediaError(
                    f"{file}: would become {target}, like {tasks[target].source}; encode them apart"
                )
            tasks[target] = Task(str(file), target)
    return list(tasks.values())


_REMEDIES = {
    errno.ENOENT: "check the name and the folder it is in",
    errno.EACCES: "give yourself permission, or choose another place",
    errno.EISDIR: "name a file in it",
    errno.ENOSPC: "make room, or choose another disk",
}


def trouble(error: OSError, name: str = "input or output") -> str:
    """What the system says of a file, in one line with what may help."""
    text = f"{error.filename or name}: {(error.strerror or str(error)).lower()}"
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{text}; {remedy}" if remedy else text


@contextmanager
def open_source(name: str) -> Iterator[IO[bytes]]:
    """A file, or standard input for `-`, to read bytes from."""
    if name == "-":
        yield sys.stdin.buffer
    else:
        try:
            file = open(name, "rb")  # noqa: SIM115
        except OSError as error:
            raise MediaError(trouble(error)) from None
        with file:
            yield file


@contextmanager
def open_target(name: str, overwrite: bool) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when all went well; standard output for `-`."""
    if name == "-":
        if sys.stdout.isatty():
            raise MediaError("standard output is a terminal; redirect it, or name a file")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(name)
    if target.is_dir():
        raise MediaError(f"{name}: is a folder; name a file, or use --out-dir")
    if target.exists() and not overwrite:
        raise MediaError(f"{name}: exists already; --overwrite replaces it")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("wb")
    except OSError as error:
        error.filename = name  # not that of the hidden part
        raise
    try:
        with file:
            yield file
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read_whole(name: str) -> io.BytesIO:
    """All bytes of a `.fsq` file or of standard input: for what needs two passes."""
    with open_source(name) as file:
        return io.BytesIO(file.read())


def run(
    tasks: list[Task],
    work: Callable[..., Outcome],
    options: dict[str, Any],
    jobs: int,
    quiet: bool,
    verbose: bool,
    keep_going: bool = False,
) -> None:
    """Do all tasks by `work(task, progress, **options)`; one that fails does not keep the others from being done.

    A file of which something is missing is written as far as it goes, and has failed unless `keep_going`.

    Raises:
        typer.Exit: with code 1 when any failed.
    """
    failed = 0
    with file_progress(len(tasks), quiet) as (advance, progress):
        for task, outcome in _outcomes(tasks, work, options, jobs, progress):
            advance()
            if isinstance(outcome, Exception):
                text = trouble(outcome, task.source) if isinstance(outcome, OSError) else str(outcome)
                failed += fail(text)
                continue
            if verbose and not quiet:
                say(quiet)(f"{task.source} → {task.target}: {outcome.summary}")
            if outcome.missing and keep_going:
                say(quiet)(outcome.missing)
            elif outcome.missing:
                failed += fail(
                    f"{outcome.missing}; what is there was written (--keep-going takes that for success)"
                )
    if failed:
        if len(tasks) > 1:
            console.print(f"{failed} of {len(tasks)} files failed")
        raise typer.Exit(1)


def _outcomes(
    tasks: list[Task], work: Callable[..., Outcome], options: dict[str, Any], jobs: int, progress: Any
) -> Iterator[tuple[Task, Outcome | Exception]]:
    if jobs == 1 or len(tasks) == 1:
        for task in tasks:
            yield task, _guarded(work, task, progress, options)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_guarded, work, task, None, options): task for task in tasks}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def _guarded(
    work: Callable[..., Outcome], task: Task, progress: Any, options: dict[str, Any]
) -> Outcome | Exception:
    """A file that cannot be worked on, for whatever reason, costs itself only."""
    try:
        return work(task, progress, **options)
    except BrokenPipeError:
        raise
    except (FSQCodecError, OSError) as error:
        return error
    except Exception as error:
        return FSQCodecError(
            f"{task.source}: {type(error).__name__}: {error}; this is a fault of fsqcodec, please report it"
        )


@contextmanager
def file_progress(count: int, quiet: bool) -> Iterator[tuple[Callable[[], None], Any]]:
    """Bars of files and of what is done within a file, with real-time factor and time left; terminals only."""
    if quiet or not console.is_terminal:
        yield (lambda: None), None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        files = bars.add_task("files", total=count, speed="", visible=count > 1)

        def advance() -> None:
            bars.advance(files)

        yield advance, WorkBar(bars)


class WorkBar:
    """The bar of the file in hand, in seconds of sound or in frames."""

    def __init__(self, bars: Any) -> None:
        self._bars, self._bar = bars, bars.add_task("", total=None, speed="", visible=False)
        self._unit = "seconds"

    def start(self, name: str, total: float | None, unit: str = "seconds") -> None:
        """Begin a file of a length that may be unknown, in seconds or frames."""
        self._unit = unit
        self._bars.reset(self._bar, description=name, total=total, visible=True)

    def advance(self, done: float) -> None:
        """Some more seconds or frames are done."""
        self._bars.advance(self._bar, done)
        task = self._bars.tasks[self._bar]
        if task.elapsed:
            speed = task.completed / task.elapsed
            text = f"{speed:.0f}× real time" if self._unit == "seconds" else f"{speed:.1f} frames a second"
            self._bars.update(self._bar, speed=text)


def say(quiet: bool) -> Callable[[str], None]:
    """Tells people a line, unless they want none."""
    if quiet:
        return lambda _: None
    return lambda line: console.print(line, soft_wrap=True, markup=False)


@cache
def load_audio(name: str) -> NeuralAudioCodec:
    """A model for sound, opened once a process and run by one thread: files are coded in parallel by --jobs, a process each."""
    import torch
    from fsqcodec import load_audio

    torch.set_num_threads(1)
    return load_audio(name)


@cache
def load_visual(name: str) -> NeuralVisualCodec:
    """A model for pictures, as `load_audio` opens one for sound."""
    import torch
    from fsqcodec import load_visual

    torch.set_num_threads(1)
    return load_visual(name)


@cache
def load_live(name: str, engine: str) -> NeuralAudioCodec:
    """A model for live sound, with its networks run by `torch` or `onnx`."""
    if engine not in ("torch", "onnx"):
        raise typer.BadParameter(f"{engine!r} is not torch or onnx", param_hint="--engine")
    if engine == "torch":
        return load_audio(name)
    from fsqcodec.export.onnx import with_onnx

    return with_onnx(load_audio(name))
