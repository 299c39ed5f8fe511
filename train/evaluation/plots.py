"""Curves as SVG and PNG, for pages without scripts, in colours that the colour-blind tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .aggregate import RATE_UNITS, means
from .metrics import HIGHER_IS_BETTER

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999933", "#882255")
"""Okabe and Ito's palette, and two more."""
_MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Line:
    """A curve with its name."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def save(path: Path, lines: Sequence[Line], x: str, y: str, log: bool = True) -> None:
    """Write lines to `path` with the suffixes `.svg` and `.png`.

    Args:
        path: without a suffix.
        lines: what is drawn.
        x, y: labels of the axes.
        log: whether the x axis is logarithmic.

    Raises:
        OSError: the files cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for i, line in enumerate(lines):
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": _MARKERS[i % len(_MARKERS)]}
        axes.plot(line.x, line.y, label=line.name, linestyle="-" if i < len(COLOURS) else ":", **style)
    if log:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": path.name}):  # the same curves are the same file
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=110)


def save_results(results: dict[str, Any], folder: Path) -> None:
    """A plot of every measure against the rate, for every kind: `folder/KIND-MEASURE.svg` and `.png`."""
    table = means(results)
    for kind in dict.fromkeys(row["kind"] for row in table):
        rows = sorted((row for row in table if row["kind"] == kind), key=lambda row: row["rate"])
        for name, higher in HIGHER_IS_BETTER.items():
            having = [row for row in rows if name in row["measures"]]
            lines = []
            for codec in sorted({row["codec"] for row in having}):
                points = [row for row in having if row["codec"] == codec]
                means_of = [row["measures"][name]["mean"] for row in points]
                lines.append(Line(codec, [row["rate"] for row in points], means_of))
            if lines:
                slug = "".join(c if c.isalnum() else "-" for c in name.partition(" (")[0].lower())
                direction = "higher" if higher else "lower"
                save(folder / f"{kind}-{slug}", lines, RATE_UNITS[kind], f"{name}, {direction} is better")
