"""The coder of fixed rules against Opus: Zimtohrli at bits taken, over a folder of clips.

python -m fsqcodec.train.music.against_opus TRAIN.npy CLIPS [--rule '{"noise": 0.6}'] [--json FILE]

TRAIN.npy holds the sound the tables are counted on, float32, (clips, n, 2). Needs `zimtohrli` (PyPI) and libopus in
FFmpeg. Opus counts its packets' payload; the rule counts ideal code lengths and nothing for headers or packets.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from .rule import Coder, Floats, Rule, Tables

_OPUS_KBPS = (16, 24, 32, 48, 64, 80)
_RULE_KBPS = (15, 20, 27, 36, 50, 70)

Point = tuple[float, float]
"""Kilobits a second and Zimtohrli distance."""


def opus(samples: Floats, kbps: int) -> tuple[Floats, float]:
    """A clip, float32, (n, 2), through libopus as FFmpeg has it by default; kilobits a second of its payload."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48000, "stereo", "flt"
    encoder.bit_rate, encoder.time_base = kbps * 1000, Fraction(1, 48000)
    encoder.open()
    size = encoder.frame_size
    padded = np.concatenate((samples, np.zeros((-len(samples) % size + 3 * size, 2), np.float32)))
    packets: list[bytes] = []
    for start in range(0, len(padded), size):
        block = np.ascontiguousarray(padded[start : start + size].reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout, decoder.extradata = 48000, "stereo", encoder.extradata
    decoder.open()
    parts = []
    for number, data in enumerate(packets):
        packet = av.Packet(data)
        packet.pts, packet.time_base = number * size, Fraction(1, 48000)
        for frame in decoder.decode(packet):
            part = frame.to_ndarray().reshape(-1, 2) if not frame.format.is_planar else frame.to_ndarray().T
            scale = np.float32(32768 if part.dtype == np.int16 else 1)
            parts.append(part.astype(np.float32) / scale)
    bits = 8 * sum(map(len, packets[: -(-len(samples) // size)]))
    return np.concatenate(parts)[: len(samples)], bits * 48 / len(samples)


def distance(reference: Floats, other: Floats) -> float:
    """Zimtohrli's distance, the mean of both channels."""
    import zimtohrli

    judge = zimtohrli.Pyohrli()
    pairs = np.ascontiguousarray(np.stack((reference, other)).transpose(2, 0, 1))
    return float(np.mean([judge.distance(one, two) for one, two in pairs]))


def counted(rule: Rule, sound: Floats) -> Tables:
    """Tables for a rule by the sound, (clips, n, 2)."""
    coder = Coder(rule)
    for clip in sound:
        coder(clip)
    return coder.tables


def knob_for(rule: Rule, tables: Tables, sound: Floats, kbps: float) -> float:
    """The knob at which some sound takes so many bits."""
    low, high = -30.0, 20.0
    for _ in range(7):
        middle = (low + high) / 2
        coder = Coder(rule.at(middle), tables)
        taken = float(np.mean([coder(clip).kbps for clip in sound]))
        low, high = (middle, high) if taken > kbps else (low, middle)
    return (low + high) / 2


def rule_points(rule: Rule, sound: Floats, clips: list[Floats]) -> list[Point]:
    """Bits and distance of every clip by a rule, its tables counted on the sound."""
    torch.set_num_threads(1)
    coder = Coder(rule, counted(rule, sound))
    coded = [coder(clip) for clip in clips]
    return [(one.kbps, distance(clip, one.samples)) for clip, one in zip(clips, coded, strict=True)]


def opus_points(clips: list[Floats], kbps: int) -> list[Point]:
    """Bits and distance of every clip by Opus."""
    coded = [opus(clip, kbps) for clip in clips]
    return [(taken, distance(clip, out)) for clip, (out, taken) in zip(clips, coded, strict=True)]


def _curve(points: list[Point]) -> NDArray[np.float64]:
    """Logarithms of bits and distance, (points, 2), distance strictly falling."""
    curve = np.log(np.array(sorted(points)))
    curve[:, 1] = np.minimum.accumulate(curve[:, 1])
    return curve[np.r_[True, np.diff(curve[:, 1]) < -1e-9]]


def bd_rate(ours: list[Point], theirs: list[Point], low: float, high: float) -> float:
    """Percent of bits ours takes more at equal distance, by PCHIP, over the distances theirs has at low to high."""
    one, two = _curve(ours), _curve(theirs)
    if len(one) < 2 or len(two) < 2:
        return float("nan")
    ends = PchipInterpolator(two[:, 0], two[:, 1])(np.clip(np.log([high, low]), two[0, 0], two[-1, 0]))
    start, stop = max(one[-1, 1], ends[0]), min(one[0, 1], ends[1])
    if stop <= start:
        return float("nan")
    at = np.linspace(start, stop, 200)
    first, second = (PchipInterpolator(c[::-1, 1], c[::-1, 0])(at) for c in (one, two))
    return float(100 * np.expm1((first - second).mean()))


def _means(table: list[list[Point]]) -> list[Point]:
    return [(float(a), float(b)) for a, b in np.array(table).mean(1)]


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--rule", default="{}", help="fields of Rule in JSON")
    parser.add_argument("--json", type=Path, help="where to write all points")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    sound = np.load(chosen.train)
    files = sorted(chosen.clips.glob("*.flac"))
    clips = [soundfile.read(file, dtype="float32")[0] for file in files]
    rule = Rule(**json.loads(chosen.rule))
    tables = counted(rule.at(-9), sound[::4])
    rules = [rule.at(knob_for(rule, tables, sound[::6], kbps)) for kbps in _RULE_KBPS]
    with ProcessPoolExecutor(2) as pool:
        ours = list(pool.map(partial(rule_points, sound=sound, clips=clips), rules))
        theirs = list(pool.map(partial(opus_points, clips), _OPUS_KBPS))
    if chosen.json:
        chosen.json.write_text(json.dumps({"rule": ours, "opus": theirs}))
    for name, table in (("rule", ours), ("opus", theirs)):
        print(name, " ".join(f"{kbps:.1f}/{far:.5f}" for kbps, far in _means(table)))
    for low, high in ((16, 24), (24, 36), (16, 48), (48, 80)):
        each = [
            bd_rate([points[clip] for points in ours], [points[clip] for points in theirs], low, high)
            for clip in range(len(clips))
        ]
        mean = bd_rate(_means(ours), _means(theirs), low, high)
        print(f"BD-rate {low}-{high}: mean curves {mean:+.1f} %, clips {np.nanmean(each):+.1f} %,", end=" ")
        print(f"median {np.nanmedian(each):+.1f} %")
        worst = sorted(zip(each, files, strict=True), key=lambda pair: -np.nan_to_num(pair[0]))
        print("   ", ", ".join(f"{file.stem} {value:+.0f}" for value, file in worst))


if __name__ == "__main__":
    main()
