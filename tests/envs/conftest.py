"""The tiny model, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.envs.tiny import moving_pipeline


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    moving_pipeline().save_pretrained(folder)
    return folder
