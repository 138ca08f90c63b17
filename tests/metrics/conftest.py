"""A seeded generator for the tests of the metrics, and the benchmark scripts as modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that every test starts afresh."""
    return np.random.Generator(np.random.PCG64(7))


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Imports a benchmark script by name; scripts import one another as they lie in their folder."""

    def load(name: str) -> ModuleType:
        sys.path.insert(0, str(BENCHMARKS))
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(str(BENCHMARKS))

    return load
