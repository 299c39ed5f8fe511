"""One HTML file that opens offline: curves, sortable tables, and blind listening and looking.

Plots are Plotly's (pan, zoom, hover, saving as SVG or PNG), bundled. What is ours is the page around them,
with its sorting and its players (`report.html` and `report.js` beside this module).
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from fsqcodec.media.color import UNSAID, from_rgb
from numpy.typing import NDArray

from .aggregate import COSTS, RATE_UNITS, costs, differences, means
from .clips import Original, read_original
from .codecs import round_trip
from .metrics import HEADLINE, HIGHER_IS_BETTER
from .plots import COLOURS

_FOLDER = Path(__file__).parent
_MARKERS = ("circle", "square", "diamond", "cross", "triangle-up", "star", "x", "hexagon")
_TITLES = {"sound": "Sound", "picture": "Pictures", "video": "Video"}
_SHOWN_CLIPS, _SHOWN_SECONDS = 3, 8.0


def build(results: dict[str, Any], clips: Sequence[str]) -> str:
    """The page of results; a few of the clips (paths) are decoded again for its players."""
    table = means(results)
    kinds = [kind for kind in _TITLES if any(row["kind"] == kind for row in table)]
    sections = []
    for kind in kinds:
        rows = [row for row in table if row["kind"] == kind]
        plots = "".join(_plot(kind, name, rows) for name in _measures(rows))
        sections.append(
            f'<section id="{kind}"><h2>{_TITLES[kind]}</h2><div class="plots">{plots}</div>'
            f"{_table(kind, rows)}</section>"
        )
    shown = _shown(results, clips)
    page = Template((_FOLDER / "report.html").read_text(encoding="utf-8"))
    return page.substitute(
        date=results["date"],
        machine=results["machine"],
        versions=", ".join(f"{k} {v}" for k, v in results["versions"].items()),
        links="".join(f'<a href="#{kind}">{_TITLES[kind]}</a>' for kind in kinds),
        sections="".join(sections),
        differences=_differences(results),
        plotly=_plotly(),
        shown=json.dumps(shown).replace("</", "<\\/"),
        script=(_FOLDER / "report.js").read_text(encoding="utf-8"),
    )


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    return source


def _measures(rows: list[dict[str, Any]]) -> list[str]:
    return [name for name in HIGHER_IS_BETTER if any(name in row["measures"] for row in rows)]


def _plot(kind: str, measure: str, rows: list[dict[str, Any]]) -> str:
    """A figure of one measure against the rate, as the data of a plot that `report.js` draws."""
    traces = []
    codecs = sorted({row["codec"] for row in rows})
    for i, codec in enumerate(codecs):
        having = [row for row in rows if row["codec"] == codec and measure in row["measures"]]
        points = sorted(having, key=lambda row: row["rate"])
        values = [row["measures"][measure] for row in points]
        traces.append(
            {
                "name": codec,
                "x": [row["rate"] for row in points],
                "y": [value["mean"] for value in values],
                "text": [f"{codec}@{row['setting']:g}" for row in points],
                "mode": "lines+markers",
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "thickness": 1,
                    "width": 2,
                    "array": [value["high"] - value["mean"] for value in values],
                    "arrayminus": [value["mean"] - value["low"] for value in values],
                },
                "line": {"color": COLOURS[i % len(COLOURS)], "dash": "solid" if i < len(COLOURS) else "dot"},
                "marker": {"symbol": _MARKERS[i % len(_MARKERS)], "size": 8},
            }
        )
    better = "higher is better" if HIGHER_IS_BETTER[measure] else "lower is better"
    figure = {"traces": traces, "x": RATE_UNITS[kind], "y": measure, "headline": measure == HEADLINE[kind]}
    data = json.dumps(figure).replace("'", "&#39;")
    return (
        f'<figure><figcaption>{measure}, {better}</figcaption><div class="plot" role="img" '
        f"aria-label=\"{measure} against {RATE_UNITS[kind]}\" data-figure='{data}'></div></figure>"
    )


def _table(kind: str, rows: list[dict[str, Any]]) -> str:
    names = _measures(rows)
    heads = ["codec", RATE_UNITS[kind], *names, *COSTS, "clips"]
    lines = []
    for row in rows:
        cells = [f"{row['codec']}@{row['setting']:g}", f"{row['rate']:.3f}"]
        for name in names:
            value = row["measures"].get(name)
            cells.append(
                f"{value['mean']:.3f} <small>{value['low']:.2f}…{value['high']:.2f}</small>" if value else "–"
            )
        cells += [*costs(row), str(row["clips"])]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return _sortable(f"{_TITLES[kind]}: means and 95 % intervals", heads, lines)


def _sortable(title: str, heads: list[str], lines: list[str]) -> str:
    head = "".join(f'<th aria-sort="none"><button type="button">{name}</button></th>' for name in heads)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{title}"><table class="sortable">'
        f"<caption>{title}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _differences(results: dict[str, Any]) -> str:
    lines = []
    for row in differences(results):
        rate = "no overlap" if row["rate"] is None else f"{row['rate']:+.1f} %"
        quality = "no overlap" if row["quality"] is None else f"{row['quality']:+.3f}"
        cells = (row["codec"], row["against"], row["measure"], rate, quality)
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    heads = ["codec", "against", "measure", "rate at equal quality", "quality at equal rate"]
    return _sortable("Bjøntegaard differences", heads, lines) if lines else ""


def _shown(results: dict[str, Any], clips: Sequence[str]) -> list[dict[str, Any]]:
    """Clips with what the codecs made of them, as data URLs: sound with spectrograms, and pictures."""
    by_name = {Path(clip).name: clip for clip in clips}
    shown: list[dict[str, Any]] = []
    for kind in ("sound", "picture", "video"):
        rows = [row for row in results["rows"] if row["kind"] == kind and row["clip"] in by_name]
        for name in list(dict.fromkeys(row["clip"] for row in rows))[:_SHOWN_CLIPS]:
            original = _cut(read_original(by_name[name]))
            versions = [{"name": "original", **_payload(original, original.data)}]
            for row in _near([row for row in rows if row["clip"] == name]):
                codec = next(
                    (c for c in results.get("models", []) if Path(c).stem == row["codec"]), row["codec"]
                )
                decoded = round_trip(original, codec, row["setting"])
                label = f"{row['codec']}@{row['setting']:g}, {row['rate']:.2f} {RATE_UNITS[kind]}"
                versions.append({"name": label, **_payload(original, decoded.data)})
            shown.append({"kind": kind, "clip": name, "versions": versions})
    return shown


def _cut(original: Original) -> Original:
    if original.kind == "sound":
        return Original("sound", original.data[: int(_SHOWN_SECONDS * original.rate)], original.rate)
    return original


def _near(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every codec the setting whose rate is nearest to the geometric mean: comparable, not equal."""
    centre = np.exp(np.mean([np.log(row["rate"]) for row in rows]))
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: abs(np.log(row["rate"] / centre))):
        best.setdefault(row["codec"], row)
    return list(best.values())


def _payload(original: Original, data: NDArray[Any]) -> dict[str, Any]:
    if original.kind == "sound":
        return {
            "url": _sound_url(data, int(original.rate)),
            "spectrogram": _spectrogram_url(data, int(original.rate)),
        }
    if original.kind == "video":
        return {"url": _video_url(data, original.rate)}
    return {"url": _picture_url(data[0])}


def _video_url(frames: NDArray[np.uint8], rate: Fraction) -> str:
    """VP9, which every browser plays, at a quality that hides nothing."""
    import av

    file, step = io.BytesIO(), rate.limit_denominator(60000)
    with av.open(file, "w", format="webm") as out:
        options = {"crf": "8", "b": "0", "deadline": "realtime", "cpu-used": "7"}
        stream = out.add_stream("libvpx-vp9", rate=step, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for picture in frames:
            out.mux(stream.encode(from_rgb(picture, "yuv420p", UNSAID)))
        out.mux(stream.encode(None))
    return "data:video/webm;base64," + base64.b64encode(file.getvalue()).decode()


def _sound_url(samples: NDArray[np.float32], rate: int) -> str:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()


def _picture_url(picture: NDArray[np.uint8]) -> str:
    from fsqcodec.media.image import encode_still

    return "data:image/png;base64," + base64.b64encode(encode_still(picture, ".png")).decode()


def _spectrogram_url(samples: NDArray[np.float32], rate: int) -> str:
    """Log spectrogram, 0 Hz below, 80 dB from dark to light."""
    size = 2 * round(0.016 * rate)
    hop = max(1, len(samples) // 700)
    starts = np.arange(0, max(1, len(samples) - size), hop)
    frames = np.stack(
        [np.pad(samples[s : s + size], (0, max(0, size - len(samples[s : s + size])))) for s in starts]
    )
    power = 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(size))) + 1e-5)
    shade = np.clip((power.T[::-1] - power.max() + 80) / 80 * 255, 0, 255).astype(np.uint8)
    return _picture_url(np.repeat(shade[..., None], 3, -1))
