"""A folder of recordings: what is found, what is mended with a note, what is refused and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.data.convert.cut import CutConfig, cut, pieces
from egotwin_sim.data.convert.folder import FolderSource
from egotwin_sim.data.convert.source import SourceIndex
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.retarget import sole_heights
from egotwin_sim.motion.smpl import motion_to_smpl

BVH = """HIERARCHY
ROOT Hips
{{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
{joints}}}
MOTION
Frames: {frames}
Frame Time: {period}
{rows}
"""


def _bvh(path: Path, frames: int, fps: float, head: bool = True) -> None:
    """A body that stands, Y up, centimetres, and moves sideways by 1 cm a frame."""

    def chain(joints: list[tuple[str, str]]) -> str:
        (name, offset), rest = joints[0], joints[1:]
        inner = chain(rest) if rest else "End Site\n{\nOFFSET 0 1 0\n}\n"
        return f"JOINT {name}\n{{\nOFFSET {offset}\nCHANNELS 3 Zrotation Xrotation Yrotation\n{inner}}}\n"

    chains = [
        [(f"{s}UpLeg", f"{x} -5 0"), (f"{s}Leg", "0 -40 0"), (f"{s}Foot", "0 -40 0")]
        for s, x in (("Left", 9), ("Right", -9))
    ]
    # The arms hang on the hips, which the importer does not mind.
    chains += [
        [(f"{s}Arm", f"{x} 50 0"), (f"{s}ForeArm", f"{x} 0 0"), (f"{s}Hand", f"{x} 0 0")]
        for s, x in (("Left", 20), ("Right", -20))
    ]
    chains.append([("Spine", "0 20 0"), ("Neck", "0 30 0"), ("Head" if head else "Nose", "0 10 0")])
    joints = "".join(chain(each) for each in chains)
    values = 6 + 3 * sum(map(len, chains))
    rows = "\n".join(" ".join([str(frame), "90", "0", *["0"] * (values - 3)]) for frame in range(frames))
    path.write_text(BVH.format(joints=joints, frames=frames, period=1 / fps, rows=rows))


def _reason(index: SourceIndex) -> str:
    assert len(index.skipped) == 1
    return index.skipped[0].reason


def test_recordings_are_found_with_their_texts(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "kitchen", "second", text="0 1.5 sits\n1.5 2 stands\n")
    record(tmp_path, "first", text="walks")
    index = FolderSource(tmp_path).index()
    assert [(each.sequence, each.text, each.start_s) for each in index.clips] == [
        ("first", "walks", 0.0),
        ("kitchen/second", "sits", 0.0),
        ("kitchen/second", "stands", 1.5),
    ]
    assert index.clips[0].end_s == pytest.approx(2.0625) and index.clips[1].end_s == 1.5
    assert index.skipped == [] and {each.note for each in index.notes} == {
        "no camera.json: a vertical field of view of 60 degrees was assumed, between the eyes"
    }


@pytest.mark.parametrize("fps", [8.0, 24.0, 29.97, 60.0])
def test_any_rate_gives_the_pictures_of_the_right_moments(
    tmp_path: Path, record: Callable[..., Path], number_of: Callable[[np.ndarray], int], fps: float
) -> None:
    record(tmp_path, "a", seconds=3.0, fps=fps, motion_fps=100.0)
    source = FolderSource(tmp_path)
    index = source.index()
    ref = replace(index.clips[0], start_s=0.99, end_s=2.99)
    made = cut(source.load(ref), ref, CutConfig((32, 32), 2.0))
    assert made.clip is not None
    shown = [number_of(picture) for picture in made.clip.video]
    assert np.abs(np.array(shown) / fps - (0.99 + np.arange(17) / 8)).max() <= 0.5 / fps + 1e-3
    assert np.allclose(made.motion.root_position[:, 0], 0.4 * (0.99 + np.arange(33) / 16), atol=1e-4)
    notes = [each.note for each in index.notes]
    assert "motion at 100 frames/s was resampled to 16" in notes
    assert any("no whole multiple" in note for note in notes) == (fps == 29.97 or fps == 60.0)


def test_the_camera_is_the_nearest_one_described(tmp_path: Path, record: Callable[..., Path]) -> None:
    for folder, name in ((tmp_path, "a"), (tmp_path, "b"), (tmp_path / "deep" / "er", "c")):
        record(folder, name, seconds=1.0)
    (tmp_path / "camera.json").write_text('{"fovy_deg": 90}')
    (tmp_path / "b.camera.json").write_text('{"fovy_deg": 45}')
    source = FolderSource(tmp_path)
    index = source.index()
    cameras = [source.load(pieces(ref, 1.0)[0]).camera for ref in index.clips]
    assert [round(np.degrees(2 * np.arctan(32 / camera.K[1, 1]))) for camera in cameras if camera] == [90, 45, 90]


def test_bvh_and_a_motion_that_begins_later(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path, "a", seconds=3.0)
    (tmp_path / "a.npz").unlink()
    _bvh(tmp_path / "a.bvh", 60, 30.0)
    assert "the video lasts 3.06 s, the motion 2.00 s" in _reason(FolderSource(tmp_path).index())
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.json").write_text(json.dumps({"text": "stands", "motion_start_s": 0.75}))
    source = FolderSource(tmp_path)
    index = source.index()
    assert index.clips[0].start_s == 0.75 and index.clips[0].end_s == pytest.approx(2.75)
    ref = replace(index.clips[0], start_s=1.25, end_s=2.25)
    made = cut(source.load(ref), ref, CutConfig((32, 32), 1.0))
    way = made.motion.root_position
    assert len(made.motion) == 17 and np.linalg.norm(way[-1] - way[0]) == pytest.approx(0.30 * 83.0 / 80.0, rel=0.02)


def test_smpl_parameters(tmp_path: Path, record: Callable[..., Path], turning: Callable[..., Motion]) -> None:
    record(tmp_path, "a")
    motion = turning(2.0, 60.0)
    sunk = replace(motion, root_position=motion.root_position - np.array([0, 0, 2.0], dtype=np.float32))
    motion_to_smpl(sunk, "smplh").save(tmp_path / "a.npz")
    source = FolderSource(tmp_path)
    index = source.index()
    found = source.load(pieces(index.clips[0], 2.0)[0]).motion
    assert found.fps == 60.0 and np.allclose(found.root_position[:, :2], motion.root_position[:, :2], atol=1e-5)
    assert np.abs(np.abs((found.joint_quat_wxyz * motion.joint_quat_wxyz).sum(axis=-1)) - 1).max() < 1e-5
    assert np.abs(sole_heights(found).min(axis=1)).max() < 1e-3
    assert "SMPL parameters: taken to our body's proportions, and set on the floor" in {e.note for e in index.notes}


def test_motion_alone(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path, "a", seconds=2.0)
    (tmp_path / "a.mp4").unlink()
    source = FolderSource(tmp_path, video=False)
    assert not source.has_video and source.load(source.index().clips[0]).video is None
    assert "video: expected one file, a.mp4 or" in _reason(FolderSource(tmp_path).index())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: (f / "a.npz").unlink(), "motion: expected one file, a.bvh or a.npz; there is none"),
        (lambda f: (f / "a.txt").unlink(), "text: expected one file, a.txt or a.json; there is none"),
        (lambda f: (f / "a.json").write_text("{}"), "there are a.txt and a.json"),
        (lambda f: (f / "a.txt").write_text("0 9\n"), "a.txt:1: '0 9'"),
        (lambda f: (f / "a.npz").write_bytes(b"PK nothing"), "holds no motion"),
        (lambda f: (f / "a.mp4").write_bytes(b"nothing"), "cannot be read as a video"),
        (lambda f: (f / "camera.json").write_text('{"fovy_deg": 1}'), "expected 5 to 170"),
        (lambda f: (f / "a.txt").rename(f / "a.json").write_text('{"text":"x","motion_start_s":"1"}'), "s is '1'"),
    ],
)  # fmt: skip
def test_a_recording_that_cannot_be_used_is_skipped_with_the_reason(
    tmp_path: Path, record: Callable[..., Path], change: Callable[[Path], object], reason: str
) -> None:
    record(tmp_path, "a")
    change(tmp_path)
    index = FolderSource(tmp_path).index()
    assert index.clips == [] and reason in _reason(index)


def test_a_motion_without_a_head_is_refused(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path, "a")
    names = tuple("skull" if name == "head" else name for name in Skeleton.default().names)
    Motion(np.zeros((33, 3)), np.tile((1.0, 0, 0, 0), (33, 22, 1)), replace(Skeleton.default(), names=names)).save(
        tmp_path / "a.npz"
    )
    assert "no joint named head" in _reason(FolderSource(tmp_path).index())
    (tmp_path / "a.npz").unlink()
    _bvh(tmp_path / "a.bvh", 60, 30.0, head=False)
    assert "found no joint for head" in _reason(FolderSource(tmp_path).index())


def test_times_that_are_wrong(
    tmp_path: Path, record: Callable[..., Path], write_video: Callable[..., Path], numbered: Callable[..., np.ndarray]
) -> None:
    record(tmp_path, "a", seconds=4.0)
    source = FolderSource(tmp_path)
    write_video(tmp_path / "a.mp4", numbered(21), 5.0)
    assert "video at 5 frames/s; expected 8 or more" in _reason(source.index())
    write_video(tmp_path / "a.mp4", numbered(49), 16.0)
    assert "the video lasts 3.06 s, the motion 4.06 s: cut the longer one" in _reason(source.index())
    times = np.delete(np.arange(65) / 16, slice(20, 26))
    write_video(tmp_path / "a.mp4", numbered(59), times=times)
    index = source.index()
    assert "1 gaps in the video's timestamps, the longest 0.438 s" in {each.note for each in index.notes}
    with pytest.raises(UserError, match="no video frame within 63 ms of 1.375 s"):
        source.load(replace(index.clips[0], start_s=0.0, end_s=2.0))
    source.load(replace(index.clips[0], start_s=2.0, end_s=4.0))


def test_a_text_beyond_the_end_is_told(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path, "a", text="0 2 walks\n7 12 sits\n")
    index = FolderSource(tmp_path).index()
    assert [each.text for each in index.clips] == ["walks"]
    assert "the text from 7 s to 12 s lies outside the recording (0.00 s to 2.06 s)" in {e.note for e in index.notes}


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no recording: expected NAME.mp4"):
        FolderSource(tmp_path).index()
