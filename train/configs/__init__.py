"""Recipes that come with the package, one YAML file each."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def shipped() -> dict[str, Path]:
    """The recipes by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}
