"""A coder of fixed rules for 48 kHz stereo: what bits and sound a switched MDCT gives before anything is trained.

Mid and side, band levels coded by difference, steps by a rule of the levels, coefficients as odd-level integers
(balanced ternary digits of them are residual FSQ stages of scales 1, 1/3, 1/9), noise for what became zero.
Bits are the ideal code length of static tables that `Tables` counts over training sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numba
import numpy as np
import torch
from fsqcodec.music.bands import BANDS, EDGES
from fsqcodec.music.transform import BLOCKS, FRAME, LappedTransform
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

_EDGES = np.array(EDGES)
_LARGEST = 14  # magnitudes from here on are coded as an escape and an Elias gamma code
_NEAR, _FAR, _SCALES = 9, 9, 24
_CHANGES = 41


@dataclass(frozen=True)
class Rule:
    """What an encoder of fixed rules may choose; levels and steps in dB."""

    knob: float = 0.0
    """Step of a band at level 0, in dB: the knob of the rate."""
    alpha: float = 0.75
    """How much of a level its step follows."""
    tilt: float = 14.0
    """How much wider the steps are in the highest band than in the lowest."""
    joint: float = 0.95
    """How much of the louder channel's level the quieter one's step follows."""
    resolution: float = 3.0
    """Of the levels."""
    laziness: float = 0.8
    """A level stays as it was while it is off by less than this share of the resolution."""
    rounding: float = 0.43
    """What is added before a magnitude is rounded down."""
    noise: float = 0.65
    """Amplitude of the filled noise against the true one."""
    bias: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors on the perceptual entropy by block type."""
    shape: str = "vorbis"
    """The window."""
    floor: float = -90.0
    """The lowest level told."""
    merge: float = 0.0
    """Blocks of a frame share their levels when these differ by less, in dB on average."""
    down: float = 2.5
    """Slope of the spreading towards lower bands, in bels a band."""

    def at(self, knob: float) -> Rule:
        """The same rule at another rate."""
        return replace(self, knob=knob)


@numba.njit(cache=True)
def _levels(coefficients: Floats, blocks: int, edges: NDArray[np.int64]) -> Floats:
    """Mean level of bands in dB, (blocks, channels, bands), of a frame, (channels, 960)."""
    channels = coefficients.shape[0]
    out = np.empty((blocks, channels, len(edges) - 1), np.float32)
    for block in range(blocks):
        for channel in range(channels):
            for band in range(len(edges) - 1):
                total = 1e-13
                for place in range(edges[band] + block, edges[band + 1], blocks):
                    total += coefficients[channel, place] ** 2
                out[block, channel, band] = 10 * np.log10(total * blocks / (edges[band + 1] - edges[band]))
    return out


@numba.njit(cache=True)
def _steps(levels: Floats, spread: Floats, alpha: float, tilt: float, joint: float, knob: float) -> Floats:
    """Steps of bands in dB, (channels, bands), by quantized levels, (channels, bands)."""
    channels, bands = levels.shape
    wide = np.empty((channels, bands), np.float32)
    for channel in range(channels):
        for band in range(bands):
            total = 1e-13
            for other in range(bands):
                total += 10 ** (levels[channel, other] / 10) * spread[band, other]
            wide[channel, band] = 10 * np.log10(total)
    out = np.empty((channels, bands), np.float32)
    for channel in range(channels):
        for band in range(bands):
            loud = max(wide[0, band], wide[channels - 1, band])
            out[channel, band] = (
                knob + alpha * (joint * loud + (1 - joint) * wide[channel, band]) + tilt * band / bands
            )
    return out


@numba.njit(cache=True)
def _class_of(value: float) -> int:
    """A class 0-8 of neighbours' magnitudes in units of the step."""
    if value < 0.15:
        return 0
    return min(8, max(1, int(np.floor(2 * np.log2(value) + 4.5))))


@numba.njit(cache=True)
def _code(
    coefficients: Floats,
    types: Ints,
    counts: NDArray[np.int64],
    edges: NDArray[np.int64],
    spread: Floats,
    numbers: Floats,
    coef_costs: Floats,
    level_costs: Floats,
    coef_counts: NDArray[np.int64],
    level_counts: NDArray[np.int64],
) -> tuple[Floats, float, float]:
    """Decoded coefficients, bits of coefficients, bits of levels; counts the symbols on the way."""
    alpha, tilt, joint, knob = numbers[0], numbers[1], numbers[2], numbers[3]
    resolution, laziness, rounding, noise, merge = numbers[4], numbers[5], numbers[6], numbers[7], numbers[8]
    floor = numbers[9]
    channels, frames, size = coefficients.shape
    bands = len(edges) - 1
    out = np.zeros_like(coefficients)
    before = np.zeros((channels, bands), np.int32)
    older = np.zeros((channels, bands), np.int32)
    past = np.zeros((channels, size), np.float32)  # decoded magnitudes of the block before, on 960 places
    now = np.zeros((channels, size), np.float32)
    coef_bits, level_bits = 0.0, 0.0
    np.random.seed(1)
    for frame in range(frames):
        blocks = counts[types[frame]]
        true = _levels(coefficients[:, frame], blocks, edges)
        sharing = 1
        if blocks > 1 and merge > 0:
            level_bits += 1
            mean = np.zeros((channels, bands), np.float32)
            for block in range(blocks):
                mean += 10 ** (true[block] / 10) / blocks
            mean = (10 * np.log10(mean)).astype(np.float32)
            off, weight = 0.0, 0.0
            for block in range(blocks):
                for channel in range(channels):
                    for band in range(bands):
                        w = max(0.0, mean[channel, band] - floor)
                        off += w * abs(true[block, channel, band] - mean[channel, band])
                        weight += w
            if off <= merge * weight:
                sharing = blocks
                for block in range(blocks):
                    true[block] = mean
        for block in range(blocks):
            indices = np.zeros((channels, bands), np.int32)
            for channel in range(channels):
                change = 0
                for band in range(bands):
                    last = before[channel, band]
                    exact = max(true[block, channel, band], floor) / resolution
                    index = last if abs(exact - last) < laziness else int(np.round(exact))
                    indices[channel, band] = index
                    if block % sharing == 0:
                        other = 0
                        if channel > 0:
                            other = 1 + min(2, max(-2, indices[0, band] - before[0, band])) + 2
                        trend = min(2, max(-2, older[channel, band] - last)) + 2
                        left = min(3, max(-3, change)) + 3
                        around = 0
                        if 0 < band < bands - 1:
                            middle = (before[channel, band - 1] + before[channel, band + 1]) / 2 - last
                            around = int(min(2, max(-2, np.round(middle * resolution / 4))))
                        change = index - last
                        symbol = min(_CHANGES - 1, max(0, change + _CHANGES // 2))
                        level_bits += level_costs[other, trend, left, around + 2, symbol]
                        level_counts[other, trend, left, around + 2, symbol] += 1
            if block % sharing == 0:
                for channel in range(channels):
                    for band in range(bands):
                        older[channel, band] = before[channel, band]
                        before[channel, band] = indices[channel, band]
            else:
                indices[:] = before
            levels = indices.astype(np.float32) * resolution
            steps = _steps(levels, spread, alpha, tilt, joint, knob)
            now[:] = 0
            for channel in range(channels):
                one, two = 0.0, 0.0
                for band in range(bands):
                    start, end = edges[band], edges[band + 1]
                    step = 10 ** (steps[channel, band] / 20)
                    gap = (levels[channel, band] - steps[channel, band]) / 1.5
                    if gap < -8:  # nothing is coded this far below the step
                        one, two = 0.0, 0.0
                        fill = noise * 10 ** (levels[channel, band] / 20) * 1.7320508
                        for place in range(start + block, end, blocks):
                            out[channel, frame, place] = (2 * np.random.random() - 1) * fill
                        continue
                    scale = int(min(_SCALES - 1, gap + 8))
                    energy, zeros = 0.0, 0
                    for place in range(start + block, end, blocks):
                        value = coefficients[channel, frame, place]
                        number = int(abs(value) / step + rounding)
                        base = place - block
                        low, high = max(0, base - blocks), min(size, base + 2 * blocks)
                        sides = 0.0
                        for near in range(low, high):
                            sides += past[channel, near]
                        sides /= high - low
                        middle = 0.0
                        for near in range(base, base + blocks):
                            middle += past[channel, near]
                        middle /= blocks
                        far = 0.5 * (sides + middle)
                        if channel > 0:
                            cross = 0.0
                            for near in range(low, high, blocks):
                                cross += now[0, near]
                            far = 0.6 * far + 0.4 * cross / ((high - low) // blocks)
                        first = _class_of((2 * one + two) / 3 / step)
                        second = _class_of(far / step)
                        symbol = min(number, _LARGEST)
                        coef_bits += coef_costs[channel, scale, first, second, symbol]
                        coef_counts[channel, scale, first, second, symbol] += 1
                        if number > 0:
                            coef_bits += 1
                        if number >= _LARGEST:
                            coef_bits += 2 * np.floor(np.log2(number - _LARGEST + 1)) + 1
                        decoded = number * step
                        if number == 0:
                            zeros += 1
                        else:
                            decoded -= 0.03 * step if number == 1 else 0.01 * step
                            energy += decoded * decoded
                        out[channel, frame, place] = decoded if value > 0 else -decoded
                        for near in range(base, base + blocks):
                            now[channel, near] = decoded
                        two, one = one, decoded
                    if zeros > 0:
                        left_over = max(
                            0.0, 10 ** (levels[channel, band] / 10) * ((end - start) // blocks) - energy
                        )
                        amplitude = min(np.sqrt(left_over / zeros), 0.32 * step)
                        if zeros < (end - start) // blocks:
                            amplitude = max(amplitude, 0.15 * step)
                        amplitude *= noise * 1.7320508
                        for place in range(start + block, end, blocks):
                            if out[channel, frame, place] == 0:
                                out[channel, frame, place] = (2 * np.random.random() - 1) * amplitude
            past[:] = now
    return out, coef_bits, level_bits


@dataclass
class Tables:
    """Static tables: how often each symbol came in each context; the code lengths follow."""

    coefficients: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((2, _SCALES, _NEAR, _FAR, _LARGEST + 1), np.int64)
    )
    levels: NDArray[np.int64] = field(default_factory=lambda: np.zeros((6, 5, 7, 5, _CHANGES), np.int64))

    def costs(self) -> tuple[Floats, Floats]:
        """Bits of every symbol in every context, smoothed by the contexts around."""
        return _bits(self.coefficients, 3), _bits(self.levels, 3)


def _bits(counts: NDArray[np.int64], context_axes: int) -> Floats:
    total = counts.astype(np.float64) + 0.0
    wide = total.sum(tuple(range(1, context_axes + 1)), keepdims=True) + 0.2
    middle = total.sum(context_axes, keepdims=True)
    middle = middle + 8 * wide / wide.sum(-1, keepdims=True)
    smooth = total + 8 * middle / middle.sum(-1, keepdims=True)
    return (-np.log2(smooth / smooth.sum(-1, keepdims=True))).astype(np.float32)


@dataclass(frozen=True)
class Coded:
    """What the coder made of a clip."""

    samples: Floats
    """(n, 2)."""
    coefficient_kbps: float
    level_kbps: float
    types: Ints
    """Block type of every frame, (frames,)."""

    @property
    def kbps(self) -> float:
        """Kilobits a second, all of them."""
        return self.coefficient_kbps + self.level_kbps


class Coder:
    """Codes clips by a rule and tables."""

    def __init__(self, rule: Rule, tables: Tables | None = None) -> None:
        self.rule = rule
        self.tables = Tables()
        self.costs = (tables or Tables()).costs()
        self.transform = LappedTransform(rule.shape)
        distance = np.arange(BANDS)[:, None] - np.arange(BANDS)[None, :]
        slope = np.where(distance > 0, 1.2 * distance, -rule.down * distance)
        self.spread = (10.0**-slope).astype(np.float32)

    def block_types(self, both: torch.Tensor) -> torch.Tensor:
        """The block type of every frame, int64, (frames,), of mid and side, float32, (2, n)."""
        rule, costs = self.rule, []
        frames = -(-both.shape[-1] // FRAME)
        for kind, blocks in enumerate(BLOCKS):
            coefficients = self.transform(both, torch.full((frames,), kind)).numpy()
            cost = np.zeros(frames)
            for frame in range(frames):
                true = _levels(coefficients[:, frame], blocks, _EDGES)
                for block in range(blocks):
                    levels = np.maximum(true[block], rule.floor)
                    steps = _steps(levels, self.spread, rule.alpha, rule.tilt, rule.joint, rule.knob)
                    inverse = np.repeat(10 ** (-steps / 20), np.diff(_EDGES) // blocks, axis=1)
                    values = np.abs(coefficients[:, frame, block : _EDGES[-1] : blocks]) * inverse
                    cost[frame] += np.log2(1 + values).sum()
            costs.append(cost * rule.bias[kind])
        return torch.from_numpy(np.argmin(np.stack(costs), 0))

    def __call__(self, samples: Floats) -> Coded:
        """Code one clip, float32, (n, 2); the symbols are counted into `tables`."""
        rule = self.rule
        left, right = torch.from_numpy(np.ascontiguousarray(samples.T))
        both = torch.stack((left + right, left - right)) * 0.5**0.5
        types = self.block_types(both)
        coefficients = self.transform(both, types).numpy()
        numbers = np.array(
            (
                *(rule.alpha, rule.tilt, rule.joint, rule.knob, rule.resolution),
                *(rule.laziness, rule.rounding, rule.noise, rule.merge, rule.floor),
            ),
            np.float32,
        )
        decoded, coef_bits, level_bits = _code(
            coefficients,
            types.numpy().astype(np.int32),
            np.array(BLOCKS),
            _EDGES,
            self.spread,
            numbers,
            *self.costs,
            self.tables.coefficients,
            self.tables.levels,
        )
        mid, side = self.transform.inverse(torch.from_numpy(decoded), types, both.shape[-1])
        out = torch.stack((mid + side, mid - side), -1).numpy() * np.float32(0.5**0.5)
        seconds = len(samples) / 48000
        type_bits = 1.2 * len(types)
        return Coded(
            out,
            coef_bits / seconds / 1000,
            (level_bits + type_bits) / seconds / 1000,
            types.numpy().astype(np.int32),
        )
