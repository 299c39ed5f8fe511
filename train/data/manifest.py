"""Where media come from: folders, globs, files, lists of them (`.txt`), and WebDataset shards (`.tar`)."""

from __future__ import annotations

import fnmatch
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fsqcodec.errors import ConfigError, MediaError
from fsqcodec.media.audio import SOUND

_NO_MEDIA = frozenset(
    {".csv", ".fsq", ".html", ".json", ".log", ".md", ".safetensors", ".svg", ".tsv", ".txt", ".yaml"}
)
"""What lies about in folders of media; our own files and reports too."""


@dataclass(frozen=True)
class Item:
    """A file, or a member of a shard."""

    key: str
    """Path below the source that it came from, with its ending."""
    path: Path
    offset: int = 0
    """Where it begins in a shard."""
    size: int | None = None
    """Its bytes in a shard; None for a file of its own."""

    def open(self) -> Path | io.BytesIO:
        """What readers of media take.

        Raises:
            MediaError: the shard is not readable, or shorter than it was.
        """
        if self.size is None:
            return self.path
        try:
            with self.path.open("rb") as shard:
                shard.seek(self.offset)
                data = shard.read(self.size)
        except OSError as error:
            raise MediaError(f"{self.path}: {error.strerror or error}") from None
        if len(data) != self.size:
            raise MediaError(f"{self.path}: ends within {self.key}")
        return io.BytesIO(data)


def list_media(path: str, match: str = "*", exclude: str = "") -> list[Path]:
    """Files of a folder (its subfolders too), of a glob, or one file; sorted.

    Raises:
        ConfigError: nothing matches.
    """
    return [file for file, _ in _files(path, match, exclude)]


def list_items(path: str, match: str = "*", exclude: str = "") -> list[Item]:
    """As `list_media`; the members of shards, and what lists name, in place of shards and lists.

    Raises:
        ConfigError: nothing matches, or a shard is damaged.
    """
    items: list[Item] = []
    if path.endswith(".txt") and Path(path).is_file():
        names = Path(path).read_text(encoding="utf-8").splitlines()
        files = [(Path(path).parent / name.strip(), name.strip()) for name in names if name.strip()]
    else:
        files = list(_files(path, match, exclude))
    for file, key in files:
        items += _members(file) if file.suffix == ".tar" else [Item(key, file)]
    return items


def _files(path: str, match: str, exclude: str) -> Iterator[tuple[Path, str]]:
    """Files, and their paths below the folder or their names."""
    root, count = Path(path), 0
    if root.is_file():
        yield root, root.name
        return
    below = root if root.is_dir() else None
    matches = root.rglob("*") if below else Path(root.anchor or ".").glob(str(root.relative_to(root.anchor)))
    for file in sorted(matches):
        wanted, unwanted = (
            any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns.split("|"))
            for patterns in (match, exclude)
        )
        if wanted and not unwanted and file.suffix.lower() not in _NO_MEDIA and file.is_file():
            count += 1
            yield file, str(PurePosixPath(file.relative_to(below) if below else file.name))
    if not count:
        if below:
            raise ConfigError(f"{path}: no media files in it (match {match!r})")
        raise ConfigError(f"{path}: no such file or folder, and no match; check the name")


def _members(shard: Path) -> list[Item]:
    try:
        with tarfile.open(shard) as tar:
            return [
                Item(member.name, shard, member.offset_data, member.size)
                for member in tar
                if member.isfile() and PurePosixPath(member.name).suffix.lower() in SOUND
            ]
    except (OSError, tarfile.TarError) as error:
        raise ConfigError(f"{shard}: not a readable tar shard ({error})") from None
