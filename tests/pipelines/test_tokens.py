"""Motion to tokens and back: the start is kept, the world does not matter, and what is lost is the VAE's own loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.motion import motion_error
from egotwin_sim.models import MotionVAE
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines.tokens import motion_tokens, pose_token, tokens_to_motion
from egotwin_sim.training.stages.motion_vae import MotionVAEStageConfig, fit_motion_vae
from egotwin_sim.training.trainer import TrainerConfig
from tests.tiny import walking

FORMS = {
    "chunk": {"canonical": "chunk"},
    "clip": {"canonical": "clip"},
    "root": {"canonical": "clip", "representation": "root", "feature_dim": 263},
}


@pytest.fixture(scope="module", params=FORMS)
def vae(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MotionVAE:
    """A model of each form that has learnt four motions well enough to tell them apart."""
    torch.manual_seed(0)
    model = MotionVAE(width=64, blocks=1, latent_channels=24, **FORMS[request.param])
    motions = [walking(seed) for seed in range(4)]
    config = MotionVAEStageConfig(
        trainer=TrainerConfig(steps=100, batch_size=4, learning_rate=4e-3, warmup_steps=10, precision="fp32"), chunks=2
    )
    fit_motion_vae(model, motions, motions[:1], config, tmp_path_factory.mktemp(request.param), device="cpu")
    return model.eval()


def test_there_and_back(vae: MotionVAE) -> None:
    for seed in range(4):
        motion = walking(seed).transformed(2.0, (5.0, -3.0, 0.0))
        tokens = motion_tokens(motion, vae)
        assert tokens.shape == (9, 24) and tokens.dtype == np.float32
        back = tokens_to_motion(tokens, motion[:1], vae)
        still = Motion.concatenate([motion[:1]] * len(motion))
        assert motion_error(motion, back).joint_mm < 0.3 * motion_error(motion, still).joint_mm
        np.testing.assert_array_equal(back.root_position[0], motion.root_position[0])


def test_tokens_do_not_know_where_in_the_world_they_are(vae: MotionVAE) -> None:
    motion = walking(0)
    moved = motion.transformed(-1.2, (4.0, 9.0, 0.0))
    tokens = motion_tokens(motion, vae)
    np.testing.assert_allclose(motion_tokens(moved, vae), tokens, atol=2e-3)
    here, there = tokens_to_motion(tokens, motion[:1], vae), tokens_to_motion(tokens, moved[:1], vae)
    assert motion_error(here.transformed(-1.2, (4.0, 9.0, 0.0)), there).joint_mm < 0.05


def test_the_first_token_is_the_pose_alone(vae: MotionVAE) -> None:
    motion = walking(1)
    np.testing.assert_allclose(pose_token(motion[:1], vae), motion_tokens(motion, vae)[0], atol=1e-5)


def test_refusals(vae: MotionVAE, tmp_path: Path) -> None:
    motion = walking(0)
    for frames in (1, 16):
        with pytest.raises(UserError, match=f"{frames} frames; expected 1"):
            motion_tokens(motion[:frames], vae)
    with pytest.raises(UserError, match="expected one, the initial pose"):
        tokens_to_motion(np.zeros((3, 24)), motion, vae)
    for count in (1, 4):
        with pytest.raises(UserError, match=r"expected \(1 \+ 2 K, 24\)"):
            tokens_to_motion(np.zeros((count, 24)), motion[:1], vae)
    with pytest.raises(UserError, match="NaN"):
        tokens_to_motion(np.full((3, 24), np.nan), motion[:1], vae)
