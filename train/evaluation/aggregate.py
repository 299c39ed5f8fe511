"""What results say: means with intervals, rate differences, and whether a model got worse."""

from __future__ import annotations

import csv
import io
import itertools
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bd_rate import Curve, bjontegaard_quality, bjontegaard_rate
from .metrics import HEADLINE, HIGHER_IS_BETTER

ANCHORS = {"sound": ("opus",), "picture": ("jpeg",), "video": ("mjpeg", "x264")}
"""Peers that rate differences are given against."""
RATE_UNITS = {"sound": "kbit/s", "picture": "bits a pixel", "video": "kbit/s"}
COSTS = ("encode ×", "decode ×", "memory MB")
"""Columns of what a codec costs, see `costs`."""
Results = dict[str, Any]


def interval(values: NDArray[np.float64], seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean by bootstrap over clips (Efron 1979); values (n,)."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def means(results: Results) -> list[dict[str, Any]]:
    """A row for every kind, codec and setting: number of clips, mean rate, means with 95 % intervals."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in results["rows"]:
        groups[row["kind"], row["codec"], row["setting"]].append(row)
    order = list(HIGHER_IS_BETTER)
    table = []
    for (kind, codec, setting), rows in sorted(groups.items()):
        names = sorted(
            {name for row in rows for name in row["measures"]},
            key=lambda name: order.index(name) if name in order else len(order),
        )
        measures = {}
        for name in names:
            values = np.array([row["measures"][name] for row in rows if name in row["measures"]])
            low, high = interval(values)
            measures[name] = {"mean": float(values.mean()), "low": low, "high": high, "clips": len(values)}
        memory = [row["memory_mb"] for row in rows if row["memory_mb"] is not None]
        table.append(
            {
                "kind": kind,
                "codec": codec,
                "setting": setting,
                "clips": len(rows),
                **{
                    key: float(np.mean([row[key] for row in rows]))
                    for key in ("rate", "encode_x", "decode_x")
                },
                "memory_mb": max(memory, default=None),
                "measures": measures,
            }
        )
    return table


def costs(row: dict[str, Any]) -> list[str]:
    """Cells of the columns `COSTS` of a row of `means`."""
    memory = row["memory_mb"]
    return [f"{row['encode_x']:.1f}", f"{row['decode_x']:.1f}", "" if memory is None else f"{memory:.0f}"]


def differences(results: Results) -> list[dict[str, Any]]:
    """Bjøntegaard differences of every codec to its kind's anchors, of sound by the headline measure only.

    `rate` in per cent at equal quality, `quality` in the measure's unit at equal rate; None without overlap.
    """
    table = []
    for kind, anchors in ANCHORS.items():
        curves = _curves([row for row in means(results) if row["kind"] == kind])
        wanted = sorted({name for name, _ in curves if HIGHER_IS_BETTER.get(name)})
        for name in wanted if kind != "sound" else [HEADLINE[kind]]:
            for anchor, (measure, codec) in itertools.product(anchors, sorted(curves)):
                if measure == name and codec != anchor and (name, anchor) in curves:
                    pair = curves[name, anchor], curves[name, codec]
                    table.append(
                        {
                            "kind": kind,
                            "codec": codec,
                            "against": anchor,
                            "measure": name,
                            "rate": bjontegaard_rate(*pair),
                            "quality": bjontegaard_quality(*pair),
                        }
                    )
    return table


def by_clip(results: Results) -> list[dict[str, Any]]:
    """Rate differences of every clip by its kind's headline measure.

    Rows of `clip`, `codec`, `against` and `rate` (None without overlap).
    """
    table = []
    for kind, anchors in ANCHORS.items():
        for clip in sorted({row["clip"] for row in results["rows"] if row["kind"] == kind}):
            rows = [row for row in results["rows"] if row["kind"] == kind and row["clip"] == clip]
            curves = _curves(rows)
            for anchor, (measure, codec) in itertools.product(anchors, sorted(curves)):
                if measure == HEADLINE[kind] and codec != anchor and (measure, anchor) in curves:
                    rate = bjontegaard_rate(curves[measure, anchor], curves[measure, codec])
                    table.append(
                        {"kind": kind, "clip": clip, "codec": codec, "against": anchor, "rate": rate}
                    )
    return table


def _curves(rows: list[dict[str, Any]]) -> dict[tuple[str, str], Curve]:
    """Curves by measure and codec, of rows of results or of their means."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        for name, value in row["measures"].items():
            points[name, row["codec"]].append(
                (row["rate"], value["mean"] if isinstance(value, dict) else value)
            )
    return {key: np.array(curve) for key, curve in points.items()}


def compare(before: Results, after: Results) -> list[dict[str, Any]]:
    """Paired differences after - before over clips that both measured with the same codec and setting.

    `worse` tells whether the 95 % interval of the difference lies wholly on the worse side of zero.
    """
    known = {(r["clip"], r["codec"], r["setting"]): r for r in before["rows"]}
    pairs: dict[tuple[str, float, str], list[float]] = defaultdict(list)
    for row in after["rows"]:
        other = known.get((row["clip"], row["codec"], row["setting"]))
        for name in HIGHER_IS_BETTER:
            if other and name in row["measures"] and name in other["measures"]:
                pairs[row["codec"], row["setting"], name].append(
                    row["measures"][name] - other["measures"][name]
                )
        if other:
            pairs[row["codec"], row["setting"], "rate"].append(row["rate"] - other["rate"])
    table = []
    for (codec, setting, name), values in sorted(pairs.items()):
        low, high = interval(np.array(values))
        better = HIGHER_IS_BETTER.get(name, False)
        table.append(
            {
                "codec": codec,
                "setting": setting,
                "measure": name,
                "clips": len(values),
                "difference": float(np.mean(values)),
                "low": low,
                "high": high,
                "worse": high < 0 if better else low > 0,
            }
        )
    return table


def to_csv(results: Results) -> str:
    """The rows of results as CSV, a column for every measure."""
    names = [
        n for n in (*HIGHER_IS_BETTER, "shift samples") if any(n in r["measures"] for r in results["rows"])
    ]
    plain = ["kind", "clip", "codec", "setting", "rate", "bytes", "encode_x", "decode_x", "memory_mb"]
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow([*plain, *names])
    for row in results["rows"]:
        table.writerow([*(row[key] for key in plain), *(row["measures"].get(name, "") for name in names)])
    return out.getvalue()


def to_markdown(results: Results) -> str:
    """Tables of means and of rate differences."""
    table, parts = means(results), [f"Measured on {results['date']}, {results['machine']}."]
    for kind in dict.fromkeys(row["kind"] for row in table):
        rows = [row for row in table if row["kind"] == kind]
        names = [name for name in HIGHER_IS_BETTER if any(name in row["measures"] for row in rows)]
        lines = [["codec@setting", RATE_UNITS[kind], *names, *COSTS]]
        for row in rows:
            values = [f"{row['measures'][n]['mean']:.3f}" if n in row["measures"] else "" for n in names]
            lines.append([f"{row['codec']}@{row['setting']:g}", f"{row['rate']:.3f}", *values, *costs(row)])
        parts.append(f"### {kind}, mean of {max(row['clips'] for row in rows)} clips\n\n" + _markdown(lines))
    lines = [["codec", "against", "measure", "rate at equal quality", "quality at equal rate"]]
    for row in differences(results):
        rate = "no overlap" if row["rate"] is None else f"{row['rate']:+.1f} %"
        quality = "no overlap" if row["quality"] is None else f"{row['quality']:+.3f}"
        lines.append([row["codec"], row["against"], row["measure"], rate, quality])
    parts.append("### Bjøntegaard differences\n\n" + _markdown(lines))
    rows = by_clip(results)
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        columns = list(dict.fromkeys((row["codec"], row["against"]) for row in mine))
        rates = {(row["clip"], row["codec"], row["against"]): row["rate"] for row in mine}
        lines = [[f"{kind}", *(f"{codec} against {anchor}" for codec, anchor in columns)]]
        for clip in dict.fromkeys(row["clip"] for row in mine):
            cells = [rates.get((clip, *column)) for column in columns]
            lines.append([clip, *("–" if rate is None else f"{rate:+.1f} %" for rate in cells)])
        parts.append(f"### Rate differences by clip, {HEADLINE[kind]}\n\n" + _markdown(lines))
    return "\n\n".join(parts) + "\n"


def _markdown(lines: list[list[str]]) -> str:
    head, *rest = lines
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rest])
