"""The tiny model of the environments' tests."""

from tests.envs.conftest import weights  # noqa: F401
