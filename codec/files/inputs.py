"""What an input holds: pictures, video or sound, by what is in it and not by its name."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from ..media.video_reader import has_pictures

PICTURES = frozenset(
    {
        ".png",
        ".jpg",
        ".jpeg",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".avif",
        ".gif",
    }
)
VIDEO = frozenset(
    {
        ".mp4",
        ".mkv",
        ".mov",
        ".webm",
        ".avi",
        ".m4v",
        ".y4m",
        ".mpg",
        ".mpeg",
        ".ts",
        ".ogv",
        ".flv",
    }
)
"""Endings that are taken from folders; files that are named are always tried."""
_MAGIC = (
    b"YUV4MPEG2",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"BM",
    b"GIF8",
    b"\x1aE\xdf\xa3",
    b"P6",
    b"II*\0",
    b"MM\0*",
)


def looks_like_pictures(source: str) -> bool:
    """Whether an input holds pictures; of standard input, `-`, the first bytes tell."""
    if source != "-":
        return Path(source).is_file() and has_pictures(source)
    head = sys.stdin.buffer.peek(16)[:16] if hasattr(sys.stdin.buffer, "peek") else b""
    return head.startswith(_MAGIC) or head[4:8] == b"ftyp" or head[8:12] == b"WEBP"


class Recording:
    """A binary file that remembers what was read of it, so that a pipe can be read from its beginning once more."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._read = file, io.BytesIO()

    def read(self, size: int = -1) -> bytes:
        """As the file's."""
        data = self._file.read(size)
        self._read.write(data)
        return data

    def seekable(self) -> bool:
        """It cannot be sought in."""
        return False

    @contextmanager
    def whole(self) -> Iterator[IO[bytes]]:
        """All of the file, what was read and what was not, on disk."""
        with tempfile.NamedTemporaryFile(prefix="fsqcodec-") as copy:
            copy.write(self._read.getvalue())
            shutil.copyfileobj(self._file, copy)
            copy.seek(0)
            yield cast(IO[bytes], copy)


@contextmanager
def on_disk(source: str) -> Iterator[str]:
    """A file's name; standard input becomes a temporary file, since sound and pictures are read apart."""
    if source != "-":
        yield source
        return
    with tempfile.NamedTemporaryFile(prefix="fsqcodec-") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield file.name
