"""A seeded generator for the tests of the metrics."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that every test starts afresh."""
    return np.random.Generator(np.random.PCG64(7))
