"""Means with intervals, Bjøntegaard differences, and paired differences between models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Array = NDArray[np.float64]


def interval(values: Array, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean by bootstrap over clips (Efron 1979); values (n,)."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _distinct(points: Array, by: int) -> Array:
    """Points in ascending order; two settings of a codec may give the same file, whose point counts once."""
    found: Array = np.unique(points, axis=0)
    return found[np.argsort(found[:, by], kind="stable")]


def bjontegaard_rate(reference: Array, curve: Array) -> float | None:
    """Mean difference in rate at equal quality, in per cent (Bjøntegaard 2001; PCHIP instead of cubics).

    Args:
        reference: (points, 2) of rate and quality.
        curve: the same of the codec that is compared.

    Returns:
        None where the curves' qualities do not overlap, or do not rise with the rate.
    """
    fits = []
    for points in (reference, curve):
        ordered = _distinct(points, by=1)
        if len(ordered) < 2 or (np.diff(ordered[:, 1]) <= 0).any() or (np.diff(ordered[:, 0]) <= 0).any():
            return None
        fits.append(PchipInterpolator(ordered[:, 1], np.log(ordered[:, 0])))
    low = max(reference[:, 1].min(), curve[:, 1].min())
    high = min(reference[:, 1].max(), curve[:, 1].max())
    if high <= low:
        return None
    area = [float(fit.integrate(low, high)) / (high - low) for fit in fits]
    return float(100 * (np.exp(area[1] - area[0]) - 1))


def bjontegaard_quality(reference: Array, curve: Array) -> float | None:
    """Mean difference in quality at equal rate; arguments and refusals as in `bjontegaard_rate`."""
    fits = []
    for points in (reference, curve):
        ordered = _distinct(points, by=0)
        if len(ordered) < 2 or (np.diff(ordered[:, 0]) <= 0).any():
            return None
        fits.append(PchipInterpolator(np.log(ordered[:, 0]), ordered[:, 1]))
    low = np.log(max(reference[:, 0].min(), curve[:, 0].min()))
    high = np.log(min(reference[:, 0].max(), curve[:, 0].max()))
    if high <= low:
        return None
    return float((fits[1].integrate(low, high) - fits[0].integrate(low, high)) / (high - low))
