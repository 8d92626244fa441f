"""Fréchet distance between two sets of feature vectors, each taken as a normal distribution.

Heusel et al. 2017 (arXiv 1706.08500), equation 6: ``|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)``. FID takes it of
Inception's features, FVD of I3D's, E-FID of expression coefficients. Too few vectors make the distance too large, and a
covariance that is not of full rank; such sets are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

LEAST_PER_DIMENSION = 2
"""Fewest vectors of a set, in numbers of features."""


@dataclass(frozen=True, eq=False)
class Normal:
    """Mean and covariance of a set."""

    mean: Values
    """(…, d)."""
    covariance: Values
    """(…, d, d), normalised by n − 1, as pytorch-fid and torchmetrics do."""

    @classmethod
    def of(cls, features: Values) -> Normal:
        """Of (n, d) vectors."""
        return cls(features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False)))


def distance(first: Normal, second: Normal) -> Values:
    """(…,) ≥ 0. The trace of the root is the sum of the roots of the product's eigenvalues."""
    difference = np.square(first.mean - second.mean).sum(axis=-1)
    traces = sum(np.trace(one.covariance, axis1=-2, axis2=-1) for one in (first, second))
    eigenvalues = np.linalg.eigvals(first.covariance @ second.covariance).real.clip(0)
    return np.asarray(np.maximum(difference + traces - 2 * np.sqrt(eigenvalues).sum(axis=-1), 0.0))


def too_few(count: int, dimensions: int, whose: str) -> str | None:
    """Why a set of that size is refused, or ``None``."""
    least = LEAST_PER_DIMENSION * dimensions
    if count >= least:
        return None
    return f"{whose} have {count} samples; a Fréchet distance of {dimensions} features needs {least} or more"
