"""Measures every clip by every codec, in parallel, and remembers what was measured.

Results are one JSON object (schema `fsqcodec-eval-2`):

    {"schema": …, "date": …, "machine": …, "versions": {package: version},
     "rows": [{"clip", "kind", "codec", "setting", "rate", "bytes", "encode_x", "decode_x", "memory_mb",
              "measures": {name: value}}],
     "failures": [{"clip", "codec", "setting", "error"}]}

`rate` is kbit/s for sound and video and bits a pixel for pictures; `encode_x` and `decode_x` are seconds of
media a second of work, or millions of pixels a second; `memory_mb` is by how much the process grew at its
peak over both, a model that is loaded for it included, or null.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from av.error import FFmpegError
from fsqcodec.audio.rdo import EFFORT, PATIENCE
from fsqcodec.checkpoints import find_model, read_metadata
from fsqcodec.errors import FSQCodecError
from fsqcodec.files.inputs import PICTURES
from fsqcodec.media.video_reader import has_pictures

from ..data.visual import is_development
from .clips import KINDS, Original, read_original
from .codecs import PICTURE_LADDER, SOUND_LADDER, model_and_effort, round_trip
from .metrics import measure
from .peers import PEERS

SCHEMA = "fsqcodec-eval-2"
_PACKAGES = ("fsqcodec", "torch", "av", "pesq", "pystoi", "visqol-python", "pytorch-msssim", "pillow")


@dataclass(frozen=True)
class Job:
    """One clip through one codec at one setting."""

    clip: str
    kind: str
    codec: str
    setting: float


ByKind = dict[str, list[str]]
"""Names or paths for every one of `clips.KINDS`."""


def clips_by_kind(files: Iterable[Path], most: int, held_out: bool) -> ByKind:
    """Paths of media files, up to `most` of each kind.

    Args:
        files: sound, pictures and videos.
        most: of each kind.
        held_out: of pictures and videos only those that training leaves out.
    """
    clips: ByKind = {kind: [] for kind in KINDS}
    for file in files:
        if not has_pictures(file):
            kind = "sound"
        else:
            kind = "picture" if file.suffix.lower() in PICTURES else "video"
        if len(clips[kind]) < most and (kind == "sound" or not held_out or is_development(file)):
            clips[kind].append(str(file))
    return clips


def models_by_kind(models: Iterable[str]) -> ByKind:
    """Our models, for sound perhaps with an effort (see `codecs.model_and_effort`), by what they are for.

    Raises:
        ModelError: there is no such model.
    """
    by_kind: ByKind = {kind: [] for kind in KINDS}
    for model in models:
        visual = read_metadata(find_model(model_and_effort(model)[0])).get("kind") == "visual"
        for kind in ("picture", "video") if visual else ("sound",):
            by_kind[kind].append(model)
    return by_kind


def plan(clips: ByKind, models: ByKind, peers: ByKind) -> list[Job]:
    """Every clip by every codec for its kind at the settings of the codec's ladder."""
    jobs = []
    for kind in KINDS:
        ladders = dict.fromkeys(models[kind], SOUND_LADDER if kind == "sound" else PICTURE_LADDER)
        ladders |= {peer: PEERS[kind][peer].ladder for peer in peers[kind]}
        for clip in clips[kind]:
            jobs += [
                Job(clip, kind, codec, setting) for codec, ladder in ladders.items() for setting in ladder
            ]
    return jobs


def run(
    jobs: Sequence[Job], cache: Path, workers: int = 1, step: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Results of all jobs; those that the cache knows are not measured again.

    Args:
        jobs: from `plan`.
        cache: folder of remembered rows, by hash of clip, codec, setting and versions.
        workers: processes.
        step: called after every job.
    """
    cache.mkdir(parents=True, exist_ok=True)
    rows, failures = [], []
    for job, outcome in _outcomes(jobs, cache, workers):
        if isinstance(outcome, str):
            failures.append({**asdict(job), "error": outcome})
        else:
            rows.append(outcome)
        if step:
            step()
    rows.sort(key=lambda row: (row["kind"], row["clip"], row["codec"], row["setting"]))
    return {
        "schema": SCHEMA,
        "date": date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": _versions(),
        "rows": rows,
        "failures": failures,
    }


def _outcomes(jobs: Sequence[Job], cache: Path, workers: int) -> Iterator[tuple[Job, dict[str, Any] | str]]:
    if workers == 1:
        for job in jobs:
            yield job, _outcome(job, cache)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_outcome, job, cache): job for job in jobs}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


_originals: dict[str, Original] = {}


def _outcome(job: Job, cache: Path) -> dict[str, Any] | str:
    """The row of a job, or what went wrong."""
    torch.set_num_threads(1)
    try:
        remembered = cache / f"{_key(job)}.json"
        if remembered.exists():
            row: dict[str, Any] = json.loads(remembered.read_text())
            return {**row, "clip": Path(job.clip).name}
        if job.clip not in _originals:
            _originals.clear()
            _originals[job.clip] = read_original(job.clip)
        row = _measured(job, _originals[job.clip])
    except (FSQCodecError, FFmpegError, OSError, ValueError, RuntimeError) as error:
        return " ".join(str(error).split())
    part = remembered.with_suffix(".part")
    part.write_text(json.dumps(row))
    part.replace(remembered)
    return row


def _measured(job: Job, original: Original) -> dict[str, Any]:
    decoded = round_trip(original, job.codec, job.setting)
    measures = {name: value for name, value in measure(original, decoded).items() if np.isfinite(value)}
    return {
        "clip": Path(job.clip).name,
        "kind": job.kind,
        "codec": _label(job.codec),
        "setting": job.setting,
        "rate": decoded.bytes * 8 / original.units,
        "bytes": decoded.bytes,
        "encode_x": original.amount / max(decoded.encode_seconds, 1e-6),
        "decode_x": original.amount / max(decoded.decode_seconds, 1e-6),
        "memory_mb": decoded.memory_mb,
        "measures": measures,
    }


def _label(codec: str) -> str:
    model, effort = model_and_effort(codec)
    return Path(model).stem if effort is None else f"{Path(model).stem}:{effort}"


def _key(job: Job) -> str:
    digest = hashlib.sha256(Path(job.clip).read_bytes())
    model, _ = model_and_effort(job.codec)
    try:
        digest.update(find_model(model).read_bytes())
    except FSQCodecError:
        digest.update(Path(model).name.encode())
    search = [] if job.kind != "sound" else [EFFORT, PATIENCE]  # what `NAME` alone stands for
    digest.update(json.dumps([SCHEMA, job.kind, job.codec, job.setting, _versions(), *search]).encode())
    return digest.hexdigest()[:32]


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def load_results(path: Path) -> dict[str, Any]:
    """A `results.json`.

    Raises:
        FSQCodecError: it is none, or of another schema.
    """
    try:
        results: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise FSQCodecError(f"{path}: not readable as results ({error})") from None
    if not isinstance(results, dict) or results.get("schema") != SCHEMA:
        raise FSQCodecError(f"{path}: not results of `fsqcodec eval` (schema {SCHEMA})")
    return results
