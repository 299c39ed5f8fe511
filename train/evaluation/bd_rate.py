"""Bjøntegaard differences: how far one curve of rate and quality is from another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Curve = NDArray[np.float64]
"""Rate and quality, (points, 2)."""


def bjontegaard_rate(
    reference: Curve, curve: Curve, rates: tuple[float, float] | None = None
) -> float | None:
    """Mean difference in rate at equal quality, in per cent (Bjøntegaard 2001; PCHIP instead of cubics).

    Args:
        reference: (points, 2) of rate and quality, which rises with the rate.
        curve: the same of the codec that is compared.
        rates: only over the qualities that the reference has between these two rates.

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
    if rates:
        quality = _quality_by_rate(_distinct(reference, by=0))
        ends = np.log(np.clip(rates, reference[:, 0].min(), reference[:, 0].max()))
        low, high = max(low, float(quality(ends[0]))), min(high, float(quality(ends[1])))
    if high <= low:
        return None
    area = [float(fit.integrate(low, high)) / (high - low) for fit in fits]
    return float(100 * (np.exp(area[1] - area[0]) - 1))


def bjontegaard_quality(reference: Curve, curve: Curve) -> float | None:
    """Mean difference in quality at equal rate; arguments and refusals as in `bjontegaard_rate`."""
    fits = []
    for points in (reference, curve):
        ordered = _distinct(points, by=0)
        if len(ordered) < 2 or (np.diff(ordered[:, 0]) <= 0).any():
            return None
        fits.append(_quality_by_rate(ordered))
    low = np.log(max(reference[:, 0].min(), curve[:, 0].min()))
    high = np.log(min(reference[:, 0].max(), curve[:, 0].max()))
    if high <= low:
        return None
    return float((fits[1].integrate(low, high) - fits[0].integrate(low, high)) / (high - low))


def _quality_by_rate(ordered: Curve) -> PchipInterpolator:
    """Quality over the logarithm of the rate."""
    return PchipInterpolator(np.log(ordered[:, 0]), ordered[:, 1])


def _distinct(points: Curve, by: int) -> Curve:
    """Points in ascending order; two settings of a codec may give the same file, whose point counts once."""
    unique: Curve = np.unique(points, axis=0)
    return unique[np.argsort(unique[:, by], kind="stable")]
