"""A stretch of sound or video that is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Seconds from `start` on."""

    start: float = 0.0
    duration: float | None = None
    """To the end when None."""

    @property
    def whole(self) -> bool:
        """Whether it is all that there is."""
        return not self.start and self.duration is None
