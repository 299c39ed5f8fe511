"""How long work tells how it gets on."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Is told how work gets on, file by file."""

    def start(self, name: str, total: float | None, unit: str = "seconds") -> None:
        """Work begins on so much, in `unit`; None when that is not known."""

    def advance(self, done: float) -> None:
        """So much more is done."""
