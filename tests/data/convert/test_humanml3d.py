"""HumanML3D: positions and features become motions, texts become clips, AMASS's rotations are preferred."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.data import LeRobotReader
from egotwin_sim.data.convert.cut import CutConfig
from egotwin_sim.data.convert.humanml3d import HumanML3DSource, positions_of_features
from egotwin_sim.data.convert.options import build_source
from egotwin_sim.data.convert.runner import convert
from egotwin_sim.data.convert.source import ClipRef, SourceIndex
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.mirror import mirrored
from egotwin_sim.motion.retarget import sole_heights
from egotwin_sim.motion.rotations import rotation_angle
from tests.data.convert.amass_tree import walker, write_recording

LINE = "a man walks on#a/DET man/NOUN walk/VERB on/ADV#0.0#0.0\n"
# From our axes to HumanML3D's: y up, facing +z, the left at +x.
TO_HUMANML3D = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def positions(motion: Motion) -> np.ndarray:
    return motion.joint_transforms()[0] @ TO_HUMANML3D.T


def features(points: np.ndarray) -> np.ndarray:
    """The 263 numbers a frame that HumanML3D makes of joint positions (T + 1, 22, 3): a turn about y and so on."""
    across = points[:, 1] - points[:, 2] + points[:, 16] - points[:, 17]
    forward = np.cross(across, [0.0, 1.0, 0.0])
    heading = np.arctan2(forward[:, 0], forward[:, 2])
    heading = np.unwrap(heading)

    def into(frame: int, vectors: np.ndarray) -> np.ndarray:
        c, s = np.cos(heading[frame]), np.sin(heading[frame])
        return vectors @ np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]]).T

    rows = []
    for frame in range(len(points) - 1):
        row = np.zeros(263)
        row[0] = (heading[frame] - heading[frame + 1]) / 2
        row[[1, 2]] = into(frame + 1, points[frame + 1, 0] - points[frame, 0])[[0, 2]]
        row[3] = points[frame, 0, 1]
        row[4:67] = into(frame, points[frame, 1:] - points[frame, 0] * [1.0, 0.0, 1.0]).reshape(-1)
        row[67:] = 0.1  # rotations, velocities and contacts: not needed
        rows.append(row)
    return np.array(rows, dtype=np.float32)


class Folder:
    """A HumanML3D folder that is filled motion by motion."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("texts", "new_joints", "new_joint_vecs"):
            (root / name).mkdir(parents=True)

    def add(
        self, name: str, joints: np.ndarray | None, split: str = "train", text: str | None = LINE, vectors: bool = False
    ) -> None:
        if joints is not None:
            folder = "new_joint_vecs" if vectors else "new_joints"
            np.save(self.root / folder / f"{name}.npy", joints.astype(np.float32))
        if text is not None:
            (self.root / "texts" / f"{name}.txt").write_text(text)
        with (self.root / f"{split}.txt").open("a") as file:
            file.write(f"{name}\n")

    def table(self, *rows: str) -> None:
        (self.root / "index.csv").write_text("\n".join(["source_path,start_frame,end_frame,new_name", *rows]) + "\n")


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path / "HumanML3D")


def reasons(index: SourceIndex) -> dict[str, str]:
    return {each.sequence: each.reason for each in index.skipped}


def relative(motion: Motion) -> np.ndarray:
    """Joint positions (T, 22, 3) from the first frame's pelvis, in its heading."""
    position, rotation = motion.joint_transforms()
    forward = rotation[0, 0, :, 0]
    yaw = np.arctan2(forward[1], forward[0])
    c, s = np.cos(-yaw), np.sin(-yaw)
    return (position - position[0, 0] * [1, 1, 0]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T


@pytest.mark.parametrize("vectors", [False, True])
def test_joints_are_where_the_files_say(vectors, folder):
    motion = walker(6.0, 20.0)
    given = features(positions(motion)) if vectors else positions(motion)
    folder.add("000001", given, vectors=vectors)
    source = HumanML3DSource(folder.root)
    index = source.index()
    seconds = 5.95 if vectors else 6.0
    assert index.clips == [ClipRef("000001", 0.0, seconds, "a man walks on", "train")] and not index.skipped
    found = source.load(index.clips[0])
    assert found.motion.fps == 20.0 and found.motion_start_s == 0.0 and found.video is None
    expected = relative(motion[: len(found.motion)])
    error = np.linalg.norm(relative(found.motion) - expected, axis=-1)
    assert error.max() < 0.02, error.max()  # of the floor, which is where the soles stand
    assert "fitted to joint positions, 0.0 mm off on average, 0.0 mm at most" in found.notes[0]
    assert "the head is turned as the neck is" in found.notes[0]


def test_features_and_positions_are_the_same_motion():
    points = positions(walker(3.0, 20.0, seed=4))
    found = positions_of_features(features(points).astype(np.float64))
    # Features begin over the origin, facing +z.
    start = found[0, 1] - found[0, 2], points[0, 1] - points[0, 2]
    turn = np.arctan2(start[1][0], start[1][2]) - np.arctan2(start[0][0], start[0][2])
    c, s = np.cos(turn), np.sin(turn)
    back = found @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T + points[0, 0] * [1.0, 0.0, 1.0]
    np.testing.assert_allclose(back, points[:-1], atol=1e-4)


def test_one_size_of_body_comes_out_with_its_feet_on_the_floor(folder):
    motion = walker(6.0, 20.0, Skeleton.default(1.5))
    folder.add("000001", positions(motion) + [0.3, 0.2, -0.1])
    source = HumanML3DSource(folder.root)
    found = source.load(source.index().clips[0])
    np.testing.assert_allclose(found.motion.skeleton.offsets, Skeleton.default().offsets)
    assert abs(np.percentile(sole_heights(found.motion).min(axis=1), 25)) < 0.02
    way = np.linalg.norm(found.motion.root_position[-1] - found.motion.root_position[0])
    assert way == pytest.approx(6.0 * np.hypot(0.3, 0.1) * 1.75 / 1.5, rel=0.02)


def test_mirror_images_are_motions_of_their_own(folder):
    motion = walker(6.0, 20.0)
    folder.add("000001", positions(motion))
    folder.add("M000001", positions(mirrored(motion)), text=LINE.replace("walks on", "walks back"))
    source = HumanML3DSource(folder.root)
    clips = source.index().clips
    assert [(ref.sequence, ref.text) for ref in clips] == [
        ("000001", "a man walks on"),
        ("M000001", "a man walks back"),
    ]
    one, other = (source.load(ref).motion for ref in clips)
    assert np.abs(relative(mirrored(one)) - relative(other)).max() < 0.02


def test_every_line_of_a_text_is_a_clip_with_its_times_and_split(folder):
    motion = positions(walker(8.0, 20.0))
    lines = LINE + "he turns#he/PRON#1.0#7.5\nhe stops#he/PRON#6.0#20.0\nlate#x/Y#9.0#10.0\nno tags\n#x/Y#0.0#0.0\n"
    folder.add("000002", motion, "test", lines)
    folder.add("000001", motion, "train", "he sits#he/PRON#nan#nan\n")
    folder.add("000001", None, "val", None)
    index = HumanML3DSource(folder.root).index()
    assert index.clips == [
        ClipRef("000001", 0.0, 8.0, "he sits", "train"),
        ClipRef("000002", 0.0, 8.0, "a man walks on", "test"),
        ClipRef("000002", 1.0, 7.5, "he turns", "test"),
        ClipRef("000002", 6.0, 8.0, "he stops", "test"),
    ]
    notes = {(each.sequence, each.note) for each in index.notes}
    assert ("000001", "it is in train.txt and in val.txt; the first counts") in notes
    said = [note for name, note in sorted(notes) if name == "000002"]
    assert len(said) == 3 and any("lies outside of the motion's 8.00 s" in note for note in said)
    assert sum("is left out" in note for note in said) == 2


# From AMASS.


def amass_and_table(tmp_path: Path, folder: Folder, **options: object) -> Motion:
    """A recording of 12 s, of which 2 s to 8 s are motion 000001, with 3 s left out before that."""
    motion = walker(12.0, 120.0)
    write_recording(tmp_path / "amass", "MPI_HDM05/bd/HDM_bd_01_poses", motion)
    folder.table(
        "./pose_data/MPI_HDM05/bd/HDM_bd_01_poses.npy,40,160,000001.npy",
        "./pose_data/humanact12/humanact12/P11G01.npy,0,-1,000002.npy",
        "./pose_data/CMU/01/01_01_poses.npy,0,100,000003.npy",
        "./pose_data/MPI_HDM05/bd/HDM_bd_01_poses.npy,100,400,000004.npy",
    )
    return motion


def test_rotations_are_amass_own_where_it_is_there(tmp_path, folder):
    motion = amass_and_table(tmp_path, folder)
    for name in ("000001", "M000001"):
        folder.add(name, None)
    source = HumanML3DSource(folder.root, amass=tmp_path / "amass")
    index = source.index()
    assert not index.skipped and not index.notes
    assert index.clips == [ClipRef(name, 0.0, 119 / 20, "a man walks on", "train") for name in ("000001", "M000001")]
    ref = ClipRef("000001", 0.5, 5.5, "a man walks on", "train")
    found = source.load(ref)
    first = round((found.motion_start_s + 3.0 + 2.0) * 120)
    assert 0.4 < found.motion_start_s <= 0.5 and len(found.motion) < 120 * 5.2
    rotation = motion[first : first + len(found.motion)].joint_transforms()[1]
    assert rotation_angle(found.motion.joint_transforms()[1], rotation).max() < 1e-3  # the head's too
    other = source.load(ClipRef("M000001", 0.5, 5.5, "a man walks on", "train"))
    np.testing.assert_allclose(
        other.motion.joint_transforms()[0], mirrored(found.motion).joint_transforms()[0], atol=1e-5
    )


def test_what_amass_lacks_comes_from_positions_with_a_note(tmp_path, folder):
    amass_and_table(tmp_path, folder)
    points = positions(walker(6.0, 20.0))
    for name in ("000001", "000002", "000003", "000004"):
        folder.add(name, points)
    source = HumanML3DSource(folder.root, amass=tmp_path / "amass")
    index = source.index()
    # 000002 is of another collection, 000003 was not downloaded, 000004 ends behind the recording's end.
    assert [each.sequence for each in index.notes] == ["000002", "000003", "000004"]
    assert all("AMASS's recording of it is not there" in each.note for each in index.notes)
    assert ["fitted" in source.load(ref).notes[0] for ref in index.clips] == [False, True, True, True]


def test_rates_that_are_no_multiple_of_twenty_keep_their_true_time(tmp_path, folder):
    """HumanML3D takes every second frame of 59 a second and calls that 20 a second."""
    write_recording(tmp_path / "amass", "CMU/01/01_01_poses", walker(12.0, 59.0))
    folder.table("./pose_data/CMU/01/01_01_poses.npy,0,177,000001.npy")
    folder.add("000001", None, text="walks#x/Y#0.0#0.0\nturns#x/Y#2.0#4.0\n")
    clips = HumanML3DSource(folder.root, amass=tmp_path / "amass").index().clips
    assert clips[0].end_s == pytest.approx(176 * 2 / 59)
    assert (clips[1].start_s, clips[1].end_s) == pytest.approx((40 * 2 / 59, 80 * 2 / 59))


def test_a_data_set_of_motion_alone_is_written_with_its_splits(tmp_path, folder):
    amass_and_table(tmp_path, folder)
    folder.add("000001", None, "train")
    folder.add("000002", positions(walker(6.0, 20.0, seed=1)), "val")
    folder.add("000005", positions(walker(4.0, 20.0, seed=2)), "test")
    source = build_source("humanml3d", folder.root, [f"amass={tmp_path / 'amass'}"])
    report = convert(source, tmp_path / "out", CutConfig(), workers=1)
    assert report.clips == 2 and "research" in report.licence
    assert (report.of("000001").split, report.of("000002").split) == ("train", "val")
    assert any("fitted to joint positions" in note for note in report.of("000002").notes)
    assert "the motion lies from 0.000 s to 4.000 s" in report.of("000005").skipped[0]["reason"]
    reader = LeRobotReader(tmp_path / "out")
    assert not reader.has_video and len(reader) == 2


# What is wrong.


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        (np.zeros((0, 22, 3)), "new_joints/000001.npy has shape (0, 22, 3)"),
        (np.zeros((22, 3)), "has shape (22, 3)"),
        (np.zeros((50, 24, 3)), "has shape (50, 24, 3)"),
        (np.full((50, 22, 3), np.nan), "not finite at frame 0"),
        (None, "neither new_joints/000001.npy nor new_joint_vecs/000001.npy"),
    ],
)
def test_bad_motions_are_skipped_with_their_reason(joints, message, folder):
    folder.add("000001", joints)
    folder.add("000002", positions(walker(6.0, 20.0)))
    index = HumanML3DSource(folder.root).index()
    assert [ref.sequence for ref in index.clips] == ["000002"]
    assert message in reasons(index)["000001"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no text 000001.txt"),
        ("", "holds no text that can be used: it is empty"),
        ("only words\n", "holds no text that can be used: 000001.txt:1"),
        ("walks#x/Y#a#b\n", "000001.txt:1"),
        ("walks#x/Y#7.0#9.0\n", "lies outside of the motion's 6.00 s"),
    ],
)
def test_motions_without_a_text_are_skipped(text, message, folder):
    folder.add("000001", positions(walker(6.0, 20.0)), text=text)
    assert message in reasons(HumanML3DSource(folder.root).index())["000001"]


def test_damaged_files_are_reasons(folder):
    folder.add("000001", positions(walker(6.0, 20.0)))
    path = folder.root / "new_joints" / "000001.npy"
    path.write_bytes(path.read_bytes()[:500])
    assert "new_joints/000001.npy cannot be read" in reasons(HumanML3DSource(folder.root).index())["000001"]
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "cannot be read" in reasons(HumanML3DSource(folder.root).index())["000001"]
    (folder.root / "texts" / "000001.txt").write_bytes(b"\xff\xfe\x00w")
    assert "no text in UTF-8" in reasons(HumanML3DSource(folder.root).index())["000001"]


def test_positions_of_no_body_are_refused(folder):
    points = np.random.default_rng(0).normal(size=(120, 22, 3))
    folder.add("000001", points)
    source = HumanML3DSource(folder.root)
    with pytest.raises(UserError, match="none of a body in metres"):
        source.load(source.index().clips[0])


def test_bad_options_and_layouts_are_refused(tmp_path, folder):
    with pytest.raises(UserError, match="no folder texts"):
        HumanML3DSource(tmp_path)
    with pytest.raises(UserError, match=r"none of train.txt, val.txt and test.txt"):
        HumanML3DSource(folder.root)
    (folder.root / "train.txt").write_text("\n")
    with pytest.raises(UserError, match="name no motion"):
        HumanML3DSource(folder.root).index()
    with pytest.raises(UserError, match="amass=.*no folder"):
        HumanML3DSource(folder.root, amass=tmp_path / "absent")
    with pytest.raises(UserError, match=r"no index.csv"):
        HumanML3DSource(folder.root, amass=tmp_path)
    with pytest.raises(UserError, match="give amass=FOLDER as well"):
        HumanML3DSource(folder.root, models=tmp_path)
    folder.add("000001", positions(walker(6.0, 20.0)))
    (folder.root / "index.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no column source_path, start_frame, end_frame, new_name"):
        HumanML3DSource(folder.root, amass=tmp_path).index()
    write_recording(tmp_path / "amass", "CMU/01/01_01_poses", walker(6.0, 30.0))
    folder.table("./pose_data/CMU/01/01_01_poses.npy,zero,100,000001.npy")
    with pytest.raises(UserError, match="index.csv:2: start_frame and end_frame must be whole numbers"):
        HumanML3DSource(folder.root, amass=tmp_path / "amass").index()


def test_sources_go_to_worker_processes(folder):
    folder.add("000001", positions(walker(6.0, 20.0)))
    source = HumanML3DSource(folder.root)
    assert pickle.loads(pickle.dumps(source)) == source
