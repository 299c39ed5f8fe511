"""What came of a file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """A file that was written."""

    summary: str
    """What it became, in words."""
    missing: str = ""
    """What of the source could not be read, in a line that names it; empty where all was there."""
