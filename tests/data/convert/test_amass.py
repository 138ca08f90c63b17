"""AMASS files of both releases become motions with texts; what is wrong with one is said by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.data import LeRobotReader
from egotwin_sim.data.convert.amass import AmassSource
from egotwin_sim.data.convert.amass_files import recording_key
from egotwin_sim.data.convert.cut import CutConfig, cut
from egotwin_sim.data.convert.options import build_source
from egotwin_sim.data.convert.runner import convert
from egotwin_sim.data.convert.source import ClipRef, SourceIndex
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.motion import same_skeleton
from egotwin_sim.motion.retarget import sole_heights
from egotwin_sim.motion.rotations import rotation_angle
from egotwin_sim.motion.smpl import SMPLBody, write_smplx
from tests.data.convert.amass_tree import walker, write_recording
from tests.smpl_model import model, write_npz

TEXT = "a person does {name}"
H, X = "CMU/01/01_01_poses", "CMU/01/01_01_stageii"


def reasons(index: SourceIndex) -> dict[str, str]:
    return {each.sequence: each.reason for each in index.skipped}


def babel(path: Path, **entries: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))
    return path


def assert_same_way(found: Motion, expected: Motion, tolerance: float = 5e-3) -> None:
    """The same motion, but for where the floor is, and for what the estimate of the size is off."""
    assert len(found) == len(expected) and found.fps == expected.fps
    shift = found.root_position - expected.root_position
    assert np.abs(shift - shift[0]).max() < tolerance and np.abs(shift[:, :2]).max() < tolerance
    turned = rotation_angle(found.joint_transforms()[1], expected.joint_transforms()[1])
    assert turned.max() < 1e-3


@pytest.mark.parametrize("name", [H, X])
def test_a_recording_becomes_the_motion_that_it_was_made_of(name, tmp_path):
    motion = walker(6.0, 120.0)
    write_recording(tmp_path, name, motion)
    source = AmassSource(tmp_path, text=TEXT)
    index = source.index()
    assert index.clips == [ClipRef(name, 0.0, 6.0, "a person does 01 01")] and not index.skipped
    assert len(index.notes) == (name == X)  # the SMPL-X release and its frame rates
    found = source.load(index.clips[0])
    assert found.video is None and found.camera is None and found.motion_start_s == 0.0
    assert_same_way(found.motion, motion)
    assert "no model file" in found.notes[0] and "scaled by 1.00" in found.notes[0]
    assert abs(np.percentile(sole_heights(found.motion).min(axis=1), 25)) < 0.01
    clip = cut(found, ClipRef(name, 1.0, 6.0, "walks"), CutConfig())
    assert clip.clip is None and len(clip.motion) == 81
    expected = motion.resampled(16.0)[16:97]
    assert_same_way(clip.motion, expected)


@pytest.mark.parametrize("stature", [1.5, 1.9])
def test_a_smaller_person_walks_a_way_of_our_size(stature, tmp_path):
    """Without a model file only the pelvis' height tells the size; the feet must not slide for it."""
    small = walker(6.0, 60.0, Skeleton.default(stature))
    write_recording(tmp_path, H, small)
    found = AmassSource(tmp_path, text="walks").load(ClipRef(H, 0.0, 6.0, "walks"))
    scale = 1.75 / stature
    np.testing.assert_allclose(found.motion.root_position[:, :2], scale * small.root_position[:, :2], rtol=0.03)
    assert f"scaled by {scale:.2f}"[:-1] in found.notes[0]


def test_who_never_stands_is_not_scaled(tmp_path):
    motion = walker(5.0, 30.0)
    lying = Motion(motion.root_position - np.array([0, 0, 0.8]), motion.joint_quat_wxyz, fps=30.0)
    write_recording(tmp_path, H, lying)
    found = AmassSource(tmp_path, text="lies").load(ClipRef(H, 0.0, 5.0, "lies"))
    assert "does not tell the size" in found.notes[0]
    np.testing.assert_allclose(found.motion.root_position[:, :2], lying.root_position[:, :2], atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), [(H, "smplh"), (X, "smplx")])
def test_with_model_files_proportions_are_the_persons(name, kind, tmp_path):
    write_npz(tmp_path / "models" / kind / f"{kind.upper()}_FEMALE.npz", model(kind))
    body = SMPLBody(tmp_path / "models", kind, "female", betas=np.linspace(-1, 1, 10))
    motion = walker(5.0, 60.0, body.skeleton)
    write_recording(tmp_path / "amass", name, motion, body)
    source = AmassSource(tmp_path / "amass", text="walks", models=tmp_path / "models")
    index = source.index()
    assert not index.skipped
    found = source.load(index.clips[0])
    assert same_skeleton(found.motion.skeleton, Skeleton.default()) and not found.notes
    ratio = np.ptp(found.motion.root_position[:, 0]) / np.ptp(motion.root_position[:, 0])
    legs = [Skeleton.default().index[f"{side}_{name}"] for side in ("left", "right") for name in ("knee", "ankle")]
    lengths = [np.linalg.norm(s.offsets[legs], axis=-1).sum() for s in (Skeleton.default(), body.skeleton)]
    assert ratio == pytest.approx(lengths[0] / lengths[1], rel=0.05)
    assert abs(np.percentile(sole_heights(found.motion).min(axis=1), 25)) < 0.02


def test_a_missing_model_is_a_reason(tmp_path):
    write_recording(tmp_path / "amass", H, walker(5.0, 30.0))
    write_npz(tmp_path / "models" / "SMPLX_NEUTRAL.npz", model("smplx"))
    index = AmassSource(tmp_path / "amass", text="walks", models=tmp_path / "models").index()
    assert "no smplh model of gender neutral" in reasons(index)[H]


def test_what_generation_writes_is_read_back(tmp_path):
    motion = walker(5.0, 16.0)
    write_smplx(tmp_path / "dream.smplx.npz", motion)
    source = AmassSource(tmp_path, text="{name}")
    (ref,) = source.index().clips
    assert ref.sequence == "dream.smplx" and ref.end_s == 5.0
    assert_same_way(source.load(ref).motion, motion)


def test_a_data_set_of_motion_alone_is_written(tmp_path):
    for number in range(3):
        write_recording(tmp_path / "amass", f"CMU/0{number}/walk_poses", walker(11.0, 30.0, seed=number))
    write_recording(tmp_path / "amass", "CMU/09/short_poses", walker(2.0, 30.0))
    write_recording(tmp_path / "amass", "CMU/09/nearly_poses", walker(4.0, 30.0))
    source = build_source("amass", tmp_path / "amass", ["text=a person walks"])
    report = convert(source, tmp_path / "out", CutConfig(), workers=1)
    assert report.clips == 6 and "AMASS is for research" in report.licence
    reader = LeRobotReader(tmp_path / "out")
    assert not reader.has_video and len(reader) == 6
    skipped = {name: [each["reason"] for each in report.of(name).skipped] for name in report.sequences}
    assert "its text covers 2.0 s; a clip needs 5 s" in skipped["CMU/09/short_poses"][0]
    assert "the motion lies from 0.000 s to 4.000 s" in skipped["CMU/09/nearly_poses"][0]


# Texts.


def test_babels_labels_are_stretches_with_their_times(tmp_path):
    write_recording(tmp_path / "a", "BioMotionLab_NTroje/rub 1/0001_walk_poses", walker(8.0, 30.0))
    write_recording(tmp_path / "a", "CMU/02/02_01_poses", walker(6.0, 30.0, seed=2))
    write_recording(tmp_path / "a", "CMU/03/03_01_poses", walker(6.0, 30.0, seed=3))
    label = {"raw_label": "walks on", "proc_label": "walk", "act_cat": ["walk"]}
    timed = [
        label | {"start_t": 0.5, "end_t": 6.0},
        {"raw_label": "transition", "proc_label": "transition", "start_t": 6.0, "end_t": 6.5},
        {"raw_label": None, "proc_label": "stand", "start_t": 6.5, "end_t": 9.0},
        label | {"start_t": 20.0, "end_t": 21.0},
    ]
    file = "BMLrub/BioMotionLab_NTroje/rub 1/0001_walk_poses.npz"
    one = {"feat_p": file, "dur": 8.03, "seq_ann": {"labels": [label]}, "frame_ann": {"labels": timed}}
    two = {"feat_p": "CMU/CMU/02/02_01_poses.npz", "dur": 6.03, "frame_ann": None}
    babel(tmp_path / "babel" / "train.json", a=one)
    babel(tmp_path / "babel" / "val.json", b=two | {"seq_ann": {"labels": [{"raw_label": "runs"}]}})
    many = two | {"seq_anns": [{"labels": [{"raw_label": "jogs"}]}, None], "frame_anns": None}
    babel(tmp_path / "babel" / "extra_val.json", c=many)
    index = AmassSource(tmp_path / "a", texts=tmp_path / "babel").index()
    first = "BioMotionLab_NTroje/rub 1/0001_walk_poses"
    assert index.clips == [
        ClipRef(first, 0.5, 6.0, "walks on", "train"),
        ClipRef(first, 6.5, 8.0, "stand", "train"),
        ClipRef("CMU/02/02_01_poses", 0.0, 6.0, "jogs", "val"),
        ClipRef("CMU/02/02_01_poses", 0.0, 6.0, "runs", "val"),
    ]
    assert ["lies outside of the recording's 8.00 s" in each.note for each in index.notes] == [True]
    assert reasons(index) == {"CMU/03/03_01_poses": "BABEL has no annotation of it: there is no text"}


def test_the_wrong_frame_rates_of_the_smplx_release_are_mended_by_babels_length(tmp_path):
    motion = walker(6.0, 60.0)
    name = "SSM/1/walk_stageii"
    write_recording(tmp_path, name, motion, mocap_frame_rate=np.array(120.0))
    entry = {"feat_p": "SSM/SSM_synced/1/walk_poses.npz", "dur": 6.02, "seq_ann": {"labels": [{"raw_label": "walks"}]}}
    source = AmassSource(tmp_path, texts=babel(tmp_path / "train.json", a=entry))
    index = source.index()
    assert index.clips[0].end_s == pytest.approx(6.0, abs=0.03)
    assert "the frame rate is given as 120; BABEL's 6.02 s make it 59.97" in index.notes[0].note
    found = source.load(index.clips[0])
    assert found.motion.fps == pytest.approx(60.0, rel=2e-3)


def test_text_files_beside(tmp_path):
    write_recording(tmp_path / "a", H, walker(9.0, 30.0))
    write_recording(tmp_path / "a", "CMU/02/02_01_poses", walker(6.0, 30.0, seed=1))
    (tmp_path / "t" / "CMU" / "01").mkdir(parents=True)
    (tmp_path / "t" / f"{H}.txt").write_text(
        "a man walks#a/DET man/NOUN walk/VERB#0.0#0.0\nhe turns#he/PRON turn/VERB#2.0#8.5\nrubbish\n\nx#y#3.0#1.0\n"
    )
    index = AmassSource(tmp_path / "a", texts=tmp_path / "t").index()
    assert index.clips == [ClipRef(H, 0.0, 9.0, "a man walks"), ClipRef(H, 2.0, 8.5, "he turns")]
    assert ["01_01_poses.txt:3" in index.notes[0].note, "01_01_poses.txt:5" in index.notes[1].note] == [True, True]
    assert "there is no text 02_01_poses.txt" in reasons(index)["CMU/02/02_01_poses"]
    (tmp_path / "t" / "02_01_poses.txt").write_text("runs#run/VERB#nan#nan\n")
    assert AmassSource(tmp_path / "a", texts=tmp_path / "t").index().clips[-1].text == "runs"
    (tmp_path / "t" / "02_01_poses.txt").write_text("\n")
    assert (
        "02_01_poses.txt holds no text"
        in reasons(AmassSource(tmp_path / "a", texts=tmp_path / "t").index())["CMU/02/02_01_poses"]
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("[1, 2]", "no objects with feat_p"),
        ("{}", "no objects with feat_p"),
        ("{", "cannot be read as JSON"),
        ('{"a": {"feat_p": "A/B/c.npz", "seq_ann": {"labels": [3]}}}', "the labels of A/B/c.npz are not BABEL's"),
        ('{"a": {"feat_p": "A/B/c.npz", "frame_ann": {"labels": [{"raw_label": "x"}]}}}', "are not BABEL's"),
    ],
)
def test_json_that_is_not_babels_is_a_reason(entry, message, tmp_path):
    write_recording(tmp_path, H, walker(5.0, 30.0))
    (tmp_path / "train.json").write_text(entry)
    assert message in reasons(AmassSource(tmp_path, texts=tmp_path / "train.json").index())[H]


# Checks.


def test_a_recording_comes_once(tmp_path):
    motion = walker(5.0, 30.0)
    write_recording(tmp_path, "amass_x/SSM/1/walk_stageii", motion)
    write_recording(tmp_path, "smplh/SSM_synced/1/walk_poses", motion)
    write_recording(tmp_path, "smplh/SSM_synced/1/copy_poses", motion)
    index = AmassSource(tmp_path, text=TEXT).index()
    # The SMPL-H release has the right frame rates, so it goes first.
    assert [ref.sequence for ref in index.clips] == ["smplh/SSM_synced/1/copy_poses"]
    assert reasons(index) == {
        "smplh/SSM_synced/1/walk_poses": "it holds the same numbers as smplh/SSM_synced/1/copy_poses",
        "amass_x/SSM/1/walk_stageii": "it is there already as smplh/SSM_synced/1/walk_poses",
    }


def test_names_of_all_releases_meet():
    for a, b in (
        ("./pose_data/KIT/3/kick high_left02_poses.npy", "KIT/3/kick_high_left02_stageii"),
        ("BMLrub/BioMotionLab_NTroje/rub1/1_poses.npz", "BMLrub/rub1/1_stageii.npz"),
        ("EyesJapanDataset/Eyes_Japan_Dataset/a/turn-03-look at-a_poses.npz", "Eyes_Japan_Dataset/a/turn-03-look_at-a"),
        ("Transitionsmocap/Transitions_mocap/m/x_poses.npz", "Transitions/m/x_stageii.npz"),
    ):
        assert recording_key(a) == recording_key(b)
    assert recording_key("KIT/3/a") != recording_key("KIT/4/a")


ZERO = np.zeros((10, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mocap_framerate": None}, "there is no frame rate"),
        ({"poses": None}, "there is no root_orient"),
        ({"trans": None}, "there is no trans"),
        ({"betas": None}, "there is no betas"),
        ({"gender": np.array("robot")}, "gender is 'robot'"),
        ({"poses": np.zeros((10, 99))}, "poses has shape (10, 99)"),
        ({"trans": np.zeros((3, 3))}, "has shape (10, 3)"),
        ({"trans": ZERO[:0], "poses": np.zeros((0, 156))}, "at least one frame"),
        ({"trans": np.where(np.arange(10)[:, None] == 4, np.nan, ZERO)}, "transl is not finite at frame 4"),
        ({"poses": np.full((10, 156), np.inf)}, "global_orient is not finite at frame 0"),
    ],
)
def test_bad_files_are_skipped_with_their_reason(changes, message, tmp_path):
    write_recording(tmp_path, H, walker(0.3, 30.0), **changes)
    write_recording(tmp_path, "CMU/01/good_poses", walker(5.0, 30.0))
    index = AmassSource(tmp_path, text=TEXT).index()
    assert [ref.sequence for ref in index.clips] == ["CMU/01/good_poses"]
    assert message in reasons(index)[H]


def test_files_that_are_no_recordings_are_passed_over_and_damaged_ones_are_not(tmp_path):
    write_recording(tmp_path, H, walker(5.0, 30.0))
    np.savez(tmp_path / "CMU" / "01" / "shape.npz", betas=np.zeros(16))
    np.savez(tmp_path / "CMU" / "01" / "neutral_stagei.npz", betas=np.zeros(16))
    (tmp_path / "CMU" / "01" / "cut_poses.npz").write_bytes((tmp_path / f"{H}.npz").read_bytes()[:500])
    (tmp_path / "CMU" / "01" / "harm_poses.npz").write_bytes(pickle.dumps({"poses": 1}))
    index = AmassSource(tmp_path, text=TEXT).index()
    assert [ref.sequence for ref in index.clips] == [H]
    assert set(reasons(index)) == {"CMU/01/cut_poses", "CMU/01/harm_poses"}
    with pytest.raises(UserError, match="cut_poses"):
        AmassSource(tmp_path, text=TEXT).load(ClipRef("CMU/01/cut_poses", 0.0, 5.0, "x"))


def test_bad_options_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no recording"):
        AmassSource(tmp_path, text="walks").index()
    for options, message in (
        ({}, "AMASS has no texts of its own"),
        ({"text": "walks", "texts": tmp_path}, "one of them"),
        ({"text": "  "}, "text is empty"),
        ({"texts": tmp_path / "absent"}, "texts=.*absent does not exist"),
        ({"text": "walks", "models": tmp_path / "absent"}, "models=.*absent does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            AmassSource(tmp_path, **options)


def test_sources_go_to_worker_processes(tmp_path):
    source = AmassSource(tmp_path, text="walks")
    assert pickle.loads(pickle.dumps(source)) == source
