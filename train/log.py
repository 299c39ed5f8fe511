"""The log of a run: `log.csv` and TensorBoard files in its folder."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Writes what a run does to its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer = SummaryWriter(str(folder))

    def train(self, row: Mapping[str, float], terms: Mapping[str, float]) -> None:
        """A row of the table, `step` among its columns; the terms, which are curves too, come behind it."""
        append_row(
            self.folder / "log.csv", {**row, **{name: round(value, 5) for name, value in terms.items()}}
        )
        for name, value in terms.items():
            self.writer.add_scalar(f"train/{name}", value, int(row["step"]))

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        """Scores of the averaged model."""
        for name, value in scores.items():
            self.writer.add_scalar(f"validation/{name}", value, step)

    def close(self) -> None:
        """Write what is waiting."""
        self.writer.close()


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a CSV file; one with other columns makes way, as `…-to-STEP.csv`."""
    if path.exists() and path.read_text().partition("\n")[0] != ",".join(row):
        path.replace(path.with_stem(f"{path.stem}-to-{row['step']}"))
    new = not path.exists()
    with path.open("a", newline="") as out:
        table = csv.DictWriter(out, list(row))
        if new:
            table.writeheader()
        table.writerow(row)
