"""SMPL parameters over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.data.convert.smpl_track import SmplTrack, read_arrays
from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import quat_to_matrix, rotation_angle
from tests.data.convert.aria_files import Person, smpl_arrays, time_code

PERSON = Person()
WIDTHS = {"betas": 10, "body_pose": 63, "global_orient": 3, "transl": 3, "timestamps": 0}


def track(y_up: bool = True, **changes: object) -> SmplTrack:
    arrays = smpl_arrays(PERSON, y_up)
    times = arrays["timestamps"] * 1e-6
    pose = np.concatenate((arrays["global_orient"], arrays["body_pose"]), axis=1)
    given = {"times_s": times, "pose": pose, "transl": arrays["transl"], "betas": arrays["betas"]}
    given |= {"valid": np.ones(len(times), dtype=bool), "notes": []} | changes
    return SmplTrack.from_params("body", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("y_up", [True, False])
def test_a_world_of_either_vertical_gives_the_motion(y_up: bool) -> None:
    found = track(y_up)
    assert found.notes == (("the body's world has y up and was turned to z up",) if y_up else ())
    times = 2.0 + np.arange(64) / 32.0
    motion, truth = found.motion(time_code(times), 32.0), PERSON.motion(times)
    assert rotation_angle(motion.joint_transforms()[1], truth.joint_transforms()[1]).max() < 2e-3
    np.testing.assert_allclose(motion.root_position, truth.root_position, atol=1e-3)
    head = quat_to_matrix(found.head_quat_wxyz()[:1])
    assert (
        rotation_angle(
            head @ np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]), PERSON.T_world_head(np.zeros(1))[:, :3, :3]
        )
        < 2e-3
    )


def test_gaps_and_bad_frames_split_it() -> None:
    valid = np.ones(1680, dtype=bool)
    valid[600:660] = False
    transl = smpl_arrays(PERSON)["transl"]
    transl[1000] = np.nan
    found = track(valid=valid, transl=transl)
    assert len(found.spans()) == 2
    assert found.notes[:2] == (
        "1 frames have numbers that are not finite and are left out",
        "1 gaps of more than 0.1 s split the body's motion",
    )
    with pytest.raises(UserError, match="no unbroken motion"):
        found.motion(time_code(np.array([4.0, 6.0])), 1.0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(UserError, match="no second of unbroken motion"):
        track(valid=np.zeros(1680, dtype=bool))
    with pytest.raises(UserError, match="the clock does not rise after frame 3"):
        times = np.arange(1680) / 120.0
        times[4] = 0.0
        track(times_s=times)
    with pytest.raises(UserError, match="expected a world with y or z up"):
        track(pose=np.tile(np.eye(1, 66, 2) * np.pi / 2, (1680, 1)))  # lies on its side


def test_arrays_of_a_file_are_checked(tmp_path: Path) -> None:
    arrays = smpl_arrays(PERSON)
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    assert read_arrays(path, WIDTHS)["body_pose"].shape == (1680, 69)
    np.savez(path, **{name: each[None] for name, each in arrays.items()})
    assert read_arrays(path, WIDTHS)["timestamps"].shape == (1680,)
    np.savez(path, **{**arrays, "transl": arrays["transl"][:-1]})
    with pytest.raises(UserError, match="expected one row for each of 1680 frames"):
        read_arrays(path, WIDTHS)
    arrays.pop("betas")
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="lacks betas"):
        read_arrays(path, WIDTHS)
    with pytest.raises(UserError, match="is missing"):
        read_arrays(tmp_path / "b.npz", WIDTHS)
