"""Recordings with Aria glasses, made up, in exactly the files that Nymeria and Ego-Exo4D have.

One known body walks and looks about; every file samples it at its own times, on its own clock, in its own world. The
sky's colour tells the direction of every ray in red and green, and blue counts the frames, so a picture says where it
was taken from and when.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pandas as pd

from egotwin_sim.data.convert.fisheye import FisheyeCamera
from egotwin_sim.data.convert.source import SourceClip
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.retarget import sole_heights
from egotwin_sim.motion.rotations import (
    axis_angle_to_matrix,
    axis_angle_to_quat,
    matrix_to_axis_angle,
    matrix_to_quat,
    quat_multiply,
    quat_to_matrix,
    rotation_angle,
    yaw_matrix,
)
from egotwin_sim.motion.xsens import PARENTS, SEGMENTS

SECONDS = 14.0
# Our joint whose bone each XSens segment is; L5 is a part of the pelvis, half way up.
JOINT_OF = dict(
    zip(
        SEGMENTS,
        (
            *("pelvis", "pelvis", "spine1", "spine2", "spine3", "neck", "head"),
            *("right_collar", "right_shoulder", "right_elbow", "right_wrist"),
            *("left_collar", "left_shoulder", "left_elbow", "left_wrist"),
            *("right_hip", "right_knee", "right_ankle", "right_foot"),
            *("left_hip", "left_knee", "left_ankle", "left_foot"),
        ),
        strict=True,
    )
)
DEVICE_START, TIMECODE_START, DRIFT = 5831.0, 1134.6, 2e-5
# How a calibration of the real camera looks, for pictures of 1408 x 1408.
PARAMS = [611.3, 715.4, 709.8, 0.406, -0.487, 0.174, 1.128, -1.703, 0.651, 6.2e-4, -2.1e-4, 9.8e-4, -2.4e-4, 8e-4, 1e-4]
T_HEAD_DEVICE = np.eye(4)
T_HEAD_DEVICE[:3, :3] = axis_angle_to_matrix(np.array([1.1, -0.4, 0.8]))
T_HEAD_DEVICE[:3, 3] = 0.02, 0.07, 0.01
# Looks ahead and 15 degrees down; its pictures lie on their side.
T_HEAD_CAMERA = np.eye(4)
T_HEAD_CAMERA[:3, :3] = (
    axis_angle_to_matrix(np.array([0.0, np.radians(15.0), 0.0]))
    @ np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    @ np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
)
T_HEAD_CAMERA[:3, 3] = 0.03, 0.06, 0.02
T_DEVICE_CAMERA = np.linalg.inv(T_HEAD_DEVICE) @ T_HEAD_CAMERA
# The upright view, in the frame of the head.
T_HEAD_VIEW = T_HEAD_CAMERA.copy()
T_HEAD_VIEW[:3, :3] = T_HEAD_CAMERA[:3, :3] @ np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Person:
    """Someone who walks in a circle and looks about, at any time from 0 to SECONDS."""

    stature: float = 1.75
    skeleton: Skeleton = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "skeleton", Skeleton.default(self.stature))

    def motion(self, times: np.ndarray, fps: float = 16.0) -> Motion:
        """The truth, in the world of the glasses; `fps` is only written on it."""
        names, count = self.skeleton.names, len(times)
        swing = np.zeros((count, len(names), 3))

        def set_joint(name: str, axis: int, value: np.ndarray) -> None:
            swing[:, names.index(name), axis] = value

        stride = 2 * np.pi * 0.8 * times
        for side, sign in (("left", 1.0), ("right", -1.0)):
            hip, knee = 0.3 * sign * np.sin(stride), 0.35 + 0.3 * sign * np.cos(stride)
            set_joint(f"{side}_hip", 1, hip - 0.5 * knee)
            set_joint(f"{side}_knee", 1, knee)
            set_joint(f"{side}_ankle", 1, -hip - 0.5 * knee)
            set_joint(f"{side}_shoulder", 0, np.full(count, -1.1 * sign))
            set_joint(f"{side}_shoulder", 2, -0.3 * np.sin(stride))
            set_joint(f"{side}_elbow", 2, -sign * (0.6 + 0.2 * np.sin(stride)))
        set_joint("spine1", 1, 0.1 + 0.06 * np.sin(1.3 * times))
        set_joint("spine3", 2, 0.1 * np.sin(stride))
        set_joint("neck", 1, 0.15 * np.sin(1.9 * times + 0.4))
        set_joint("head", 2, 0.6 * np.sin(1.1 * times) + 0.2 * np.sin(2.7 * times + 1.0))
        set_joint("head", 1, 0.3 * np.sin(1.7 * times + 0.5))
        set_joint("head", 0, 0.2 * np.sin(1.4 * times + 2.0) + 0.1 * np.sin(2.3 * times))
        quat = axis_angle_to_quat(swing)
        yaw = 0.35 * times
        zero = np.zeros(count)
        quat[:, 0] = quat_multiply(axis_angle_to_quat(np.stack((zero, zero, yaw), axis=-1)), quat[:, 0])
        radius = 0.8 / 0.35
        root = np.stack((radius * np.sin(yaw), -radius * np.cos(yaw), zero), axis=-1) + [2.0, -1.0, 0.0]
        root[:, 2] = self.skeleton.rest_root_height - 0.03 + 0.012 * np.cos(2 * stride)
        return Motion(root, quat, self.skeleton, fps)

    def T_world_head(self, times: np.ndarray) -> np.ndarray:
        return self.motion(times).T_world_head()


def device_clock(times: np.ndarray) -> np.ndarray:
    return DEVICE_START + times


def time_code(times: np.ndarray) -> np.ndarray:
    return TIMECODE_START + times * (1.0 + DRIFT)


def write_trajectory(path: Path, person: Person, start: float = -1.0, end: float = SECONDS + 1.0) -> None:
    """`closed_loop_trajectory.csv`: a quarter of the 1000 poses a second that MPS writes, to be quick."""
    times = np.arange(start, end, 4e-3)
    pose = person.T_world_head(times) @ T_HEAD_DEVICE
    quat = matrix_to_quat(pose[:, :3, :3])
    zero = np.zeros(len(times))
    columns: dict[str, object] = {
        "graph_uid": ["4a1b2c3d-0000-1111-2222-333344445555"] * len(times),
        "tracking_timestamp_us": np.rint(device_clock(times) * 1e6).astype(np.int64),
        "utc_timestamp_ns": np.rint((1.686e9 + times) * 1e9).astype(np.int64),
    }
    columns |= {f"t{axis}_world_device": pose[:, i, 3] for i, axis in enumerate("xyz")}
    columns |= {f"q{axis}_world_device": quat[:, i] for axis, i in (("x", 1), ("y", 2), ("z", 3), ("w", 0))}
    columns |= {f"device_linear_velocity_{axis}_device": zero for axis in "xyz"}
    columns |= {f"angular_velocity_{axis}_device": zero for axis in "xyz"}
    columns |= {"gravity_x_world": zero, "gravity_y_world": zero, "gravity_z_world": zero - 9.81}
    columns["quality_score"] = zero + 1.0
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False, float_format="%.9f")


def se3_json(T: np.ndarray) -> dict[str, object]:
    w, x, y, z = matrix_to_quat(T[:3, :3])
    return {"Translation": T[:3, 3].tolist(), "UnitQuaternion": [w, [x, y, z]]}


def write_calibration(path: Path, params: list[float] = PARAMS) -> None:
    """`online_calibration.jsonl`: two cameras and two IMUs, a record a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    identity = np.eye(3).tolist()
    bias = {"Name": "Constant", "Offset": [0.0, 0.0, 0.0]}
    imus = [
        {
            "Label": label,
            "SerialNumber": "",
            "Calibrated": True,
            "T_Device_Imu": se3_json(np.eye(4)),
            "Accelerometer": {
                "TimeOffsetSec_Device_Accel": 0.0,
                "Bias": bias,
                "Model": {"Name": "UpperTriagonalLinear", "RectificationMatrix": identity},
            },
            "Gyroscope": {
                "TimeOffsetSec_Device_Gyro": 0.0,
                "Bias": bias,
                "Model": {
                    "Name": "LinearGSensitivity",
                    "RectificationMatrix": identity,
                    "GSensitivityMatrix": np.zeros((3, 3)).tolist(),
                },
            },
        }
        for label in ("imu-left", "imu-right")
    ]

    def camera(label: str, values: list[float], T: np.ndarray) -> dict[str, object]:
        model = {"Name": "FisheyeRadTanThinPrism", "Description": "", "Params": values}
        pose = se3_json(T)
        return {"Label": label, "SerialNumber": "0", "Calibrated": True, "Projection": model, "T_Device_Camera": pose}

    slam = [240.0, 319.5, 239.5, *PARAMS[3:]]
    with path.open("w") as file:
        for second in range(-1, int(SECONDS) + 2):
            record = {
                "utc_timestamp_ns": 1686000000000000000 + second * 1000000000,
                "tracking_timestamp_us": round(float(device_clock(np.array(second))) * 1e6),
                "ImuCalibrations": imus,
                "CameraCalibrations": [
                    camera("camera-slam-left", slam, np.eye(4)),
                    camera("camera-rgb", params, T_DEVICE_CAMERA),
                ],
            }
            file.write(json.dumps(record) + "\n")


def sky(directions: np.ndarray) -> np.ndarray:
    """Red and green (..., 2) that the world shows in directions (..., 3)."""
    return 127.5 + 100.0 * directions[..., [0, 2]]


def frame_blue(number: int) -> int:
    """The blue of a frame: 13 levels, so that neighbours differ by far more than coding loses."""
    return 30 + 15 * (number % 13)


def pictures(person: Person, times: np.ndarray, size: int, upright: bool) -> np.ndarray:
    """What the camera sees at each time, uint8 (T, size, size, 3)."""
    camera = FisheyeCamera.from_aria(PARAMS, T_DEVICE_CAMERA).resized(size, size)
    centres = np.arange(size) + 0.5
    rays = camera.unproject(np.stack(np.meshgrid(centres, centres), axis=-1))
    seen = np.isfinite(rays).all(axis=-1)
    rotation = (person.T_world_head(times) @ T_HEAD_CAMERA)[:, :3, :3]
    frames = np.zeros((len(times), size, size, 3), dtype=np.uint8)
    for i in range(len(times)):
        frames[i, ..., :2][seen] = np.rint(sky(rays[seen] @ rotation[i].T))
        frames[i, ..., 2][seen] = frame_blue(i)
    return np.rot90(frames, -1, axes=(1, 2)) if upright else frames


def write_rgb(folder: Path, person: Person, size: int = 96, fps: int = 15, time_codes: bool = True) -> np.ndarray:
    """`rgb.mp4` and `rgb_timestamps.csv`; returns the times of the frames."""
    times = np.arange(-0.5, SECONDS + 0.5, 1.0 / fps)
    folder.mkdir(parents=True, exist_ok=True)
    frames = pictures(person, times, size, upright=False)
    _encode(folder / "rgb.mp4", frames, fps)
    table = pd.DataFrame({"frame": range(len(times)), "device_timestamp_ns": np.rint(device_clock(times) * 1e9)})
    if time_codes:
        table["timecode_ns"] = np.rint(time_code(times) * 1e9)
    table.astype(np.int64).to_csv(folder / "rgb_timestamps.csv", index=False)
    return times


def write_preview(path: Path, person: Person, size: int = 96, fps: int = 15) -> np.ndarray:
    """An mp4 file as Aria's converter writes it: upright, with a dropped frame copied; returns the frames' times."""
    times = np.arange(-0.5, SECONDS + 0.5, 1.0 / fps)
    frames = pictures(person, times, size, upright=True)
    stamps = np.rint(device_clock(times) * 1e9).astype(np.int64)
    frames[20], stamps[20] = frames[19], stamps[19]
    _encode(path, frames, fps, {"description": str(stamps.tolist())})
    return times


def _encode(path: Path, frames: np.ndarray, fps: int, tags: dict[str, str] | None = None) -> None:
    with av.open(str(path), "w") as container:
        container.metadata.update(tags or {})
        stream = container.add_stream("libx264", rate=fps, options={"crf": "8", "preset": "veryfast"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.codec_context.thread_count = "yuv444p", 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))


def xsens_arrays(person: Person, seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of `xdata.npz`: 240 Hz, in a world that drifts, with segments turned in any way at rest."""
    rng = np.random.default_rng(seed)
    times = np.arange(0.0, SECONDS, 1.0 / 240.0)
    motion = person.motion(times)
    position, rotation = motion.joint_transforms()
    index = person.skeleton.index
    joints = [index[JOINT_OF[segment]] for segment in SEGMENTS]
    position, rotation = position[:, joints], rotation[:, joints]
    half_up = 0.5 * person.skeleton.offsets[index["spine1"]]
    position[:, 1] += rotation[:, 0] @ half_up
    # Its world lies elsewhere and turns and slides slowly.
    turn = yaw_matrix(2.1 + np.radians(0.05) * times)
    slide = np.stack((5.0 + 0.004 * times, -3.0 - 0.003 * times, np.zeros_like(times)), axis=-1)
    position = (turn[:, None] @ position[..., None])[..., 0] + slide[:, None]
    rotation = turn[:, None] @ rotation
    own = axis_angle_to_matrix(rng.normal(size=(len(SEGMENTS), 3)) * 0.4)
    facing = yaw_matrix(0.9)
    rest = np.zeros((len(SEGMENTS), 3))
    for segment, parent in enumerate(PARENTS[1:], start=1):
        in_half = SEGMENTS[segment] in ("L5", "L3")
        rest[segment] = rest[parent] + (half_up if in_half else person.skeleton.offsets[joints[segment]])
    return {
        "timestamps_us": np.rint(time_code(times) * 1e6).astype(np.int64),
        "frameCount": np.array([len(times)]),
        "frameRate": np.array([240]),
        "segmentCount": np.array([len(SEGMENTS)]),
        "segment_tXYZ": position.reshape(len(times), -1).astype(np.float32),
        "segment_qWXYZ": matrix_to_quat(rotation @ own).reshape(len(times), -1).astype(np.float32),
        "tpose_segment_tXYZ": (rest @ facing.T).reshape(-1).astype(np.float32),
        "tpose_segment_qWXYZ": matrix_to_quat(facing @ own).reshape(-1).astype(np.float32),
        "foot_contacts": np.ones((len(times), 4), dtype=np.float32),
    }


def smpl_pose(motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Rotation vectors (T, 3) of the pelvis to a world with z up, and (T, 63) of SMPL's 21 body joints."""
    to_smpl = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    local = quat_to_matrix(motion.joint_quat_wxyz.astype(np.float64))
    pelvis = matrix_to_axis_angle(local[:, 0] @ to_smpl.T)
    body = matrix_to_axis_angle(to_smpl @ local[:, 1:] @ to_smpl.T)
    return pelvis, body.reshape(len(body), -1)


def smpl_arrays(person: Person, y_up: bool = True) -> dict[str, np.ndarray]:
    """The arrays of `xdata_smpl_neutral.npz`: 120 Hz, in the world of the glasses."""
    times = np.arange(0.0, SECONDS, 1.0 / 120.0)
    motion = person.motion(times)
    orient, body = smpl_pose(motion)
    transl = motion.root_position.astype(np.float64)
    if y_up:
        down = axis_angle_to_matrix(np.array([-np.pi / 2, 0.0, 0.0]))
        orient = matrix_to_axis_angle(down @ axis_angle_to_matrix(orient))
        transl = transl @ down.T
    return {
        "betas": np.zeros((len(times), 10), dtype=np.float32),
        "body_pose": np.concatenate((body, np.zeros((len(times), 6))), axis=1).astype(np.float32),
        "global_orient": orient.astype(np.float32),
        "transl": transl.astype(np.float32),
        "timestamps": time_code(times) * 1e6,
    }


def narration_rows(column: str, seconds: float = 5.0, first: float = 0.2, count: int = 2) -> list[dict[str, object]]:
    """Rows of a narration file, one after the other."""
    rows = []
    for i in range(count):
        start, end = first + i * seconds, first + (i + 1) * seconds
        row = {"request_id": 7000 + i, "gaia_id": 123, "start_time": DEVICE_START + start}
        row |= {"end_time": DEVICE_START + end, "annotator": "a1", "creation_time": 1700000000}
        rows.append({**row, column: f"C walks and looks about, part {i}"})
    return rows


def write_narrations(folder: Path, rows: list[dict[str, object]], name: str = "atomic_action.csv") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / name, index=False)


def write_nymeria(folder: Path, person: Person, preview: bool = False) -> np.ndarray:
    """A whole sequence; returns the times of its pictures."""
    slam = folder / "recording_head" / "mps" / "slam"
    write_trajectory(slam / "closed_loop_trajectory.csv", person)
    write_calibration(slam / "online_calibration.jsonl")
    (folder / "body").mkdir()
    (folder / "LICENSE").write_text("Creative Commons Attribution-NonCommercial 4.0 International")
    np.savez(folder / "body" / "xdata.npz", **xsens_arrays(person))
    np.savez(folder / "body" / "xdata_smpl_neutral.npz", **smpl_arrays(person))
    write_narrations(folder / "narration", narration_rows("Describe my atomic actions", first=1.2))
    if preview:
        return write_preview(folder / f"{folder.name}_preview_rgb.mp4", person)
    return write_rgb(folder / "recording_head" / "data", person)


def joint_places(person: Person, times: np.ndarray) -> dict[str, np.ndarray]:
    """Places (T, 3) of joints, eyes and ears."""
    motion = person.motion(times)
    position, _ = motion.joint_transforms()
    head = motion.T_world_head()
    points = {name: position[:, joint] for name, joint in person.skeleton.index.items()}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for name, place in (("eye", (0.0, 0.032, 0.0)), ("ear", (-0.1, 0.075, 0.0))):
            points[f"{side}_{name}"] = head[:, :3, :3] @ (place * np.array([1.0, sign, 1.0])) + head[:, :3, 3]
    return points


OPENPOSE = {
    **{2: "right_shoulder", 3: "right_elbow", 4: "right_wrist", 5: "left_shoulder", 6: "left_elbow", 7: "left_wrist"},
    **{9: "right_hip", 10: "right_knee", 11: "right_ankle", 12: "left_hip", 13: "left_knee", 14: "left_ankle"},
    **{15: "right_eye", 16: "left_eye", 17: "right_ear", 18: "left_ear"},
}
TAKE, UID, FIRST_ROW = "cmu_bike02_4", "3a1e-uid", 7
COCO = [name for name in OPENPOSE.values()]


def write_ego_exo(root: Path, person: Person, body: str = "hm", size: int = 96) -> np.ndarray:
    """A data set of one take, with the body of Ego-Exo4D-HM or annotated joints; returns the times of its frames."""
    times = np.arange(0.0, SECONDS, 1.0 / 30.0)
    folder = root / "takes" / TAKE
    (folder / "frame_aligned_videos").mkdir(parents=True)
    _encode(folder / "frame_aligned_videos" / "aria01_214-1.mp4", pictures(person, times, size, upright=False), 30)
    write_trajectory(folder / "trajectory" / "closed_loop_trajectory.csv", person)
    write_calibration(folder / "trajectory" / "online_calibration.jsonl")
    entry = {
        "take_name": TAKE,
        "take_uid": UID,
        "root_dir": f"takes/{TAKE}",
        "timesync_start_idx": FIRST_ROW,
        "timesync_end_idx": FIRST_ROW + len(times),
        "capture": {
            "capture_name": "cmu_bike02",
            "cameras": [{"cam_id": "cam01", "is_ego": False}, {"cam_id": "aria01", "is_ego": True}],
        },
    }
    (root / "takes.json").write_text(json.dumps([entry]))
    capture = root / "captures" / "cmu_bike02"
    capture.mkdir(parents=True)
    rows = np.arange(-FIRST_ROW, len(times) + 5) / 30.0
    stamps = np.rint(device_clock(rows) * 1e9).astype(np.int64)
    pd.DataFrame({"cam01_pts": range(len(rows)), "aria01_214-1_capture_timestamp_ns": stamps}).to_csv(
        capture / "timesync.csv", index=False
    )
    annotations = root / "annotations"
    annotations.mkdir()
    (annotations / "splits.json").write_text(json.dumps({"take_uid_to_split": {UID: "val"}}))
    said = [
        {"text": "C walks ahead.", "timestamp": 2.4, "subject": "C", "ego_visible": True, "unsure": False},
        {"text": "O hands C a cup.", "timestamp": 3.0, "subject": "O", "ego_visible": True, "unsure": False},
        {"text": "C looks to the left", "timestamp": 4.1, "subject": "C", "ego_visible": True, "unsure": False},
        {"text": "C turns around.", "timestamp": 8.0, "subject": "C", "ego_visible": False, "unsure": False},
        {"text": "C drops something.", "timestamp": 9.0, "subject": "C", "ego_visible": True, "unsure": True},
    ]
    other = {"annotator": "b", "rejected": True, "descriptions": said * 3}
    kept = {UID: [{"annotator": "a", "rejected": False, "descriptions": said}, other]}
    (annotations / "atomic_descriptions_val.json").write_text(json.dumps({"annotations": kept}))
    if body == "hm":
        hm = root / "hm" / TAKE
        hm.mkdir(parents=True)
        np.savez(hm / "points_triangulated_world_results_merged.npz", **hm_arrays(person, times))
    else:
        write_joints(annotations / "ego_pose" / "val", person, times)
    return times


def hm_arrays(person: Person, times: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of an Ego-Exo4D-HM file: one person, one row a frame of the take."""
    motion = person.motion(times)
    orient, body = smpl_pose(motion)
    points = joint_places(person, times)
    joints = np.zeros((len(times), 67, 3))
    for number, name in OPENPOSE.items():
        joints[:, number] = points[name]
    return {
        "trans": motion.root_position[None],
        "root_orient": orient[None].astype(np.float32),
        "pose_body": body[None].astype(np.float32),
        "hand_pose": np.zeros((1, len(times), 90), dtype=np.float32),
        "betas_per_frame": np.zeros((1, len(times), 16), dtype=np.float32),
        "joints3d": joints[None].astype(np.float32),
        "valid": np.ones((1, len(times)), dtype=np.int8),
        "chunk_ranges": np.array([[0, len(times)]]),
    }


def write_joints(folder: Path, person: Person, times: np.ndarray) -> None:
    """Annotated joints of body and hands, every third frame."""
    points = joint_places(person, times)
    motion = person.motion(times)
    _, rotation = motion.joint_transforms()
    body, hand = {}, {}
    for frame in range(0, len(times), 3):
        place = {name.replace("_", "-"): _xyz(points[name][frame]) for name in COCO}
        body[str(frame)] = [{"annotation2D": {}, "annotation3D": {**place, "nose": _xyz(points["left_eye"][frame])}}]
        fingers = {}
        for side, sign in (("left", 1.0), ("right", -1.0)):
            wrist, turn = points[f"{side}_wrist"][frame], rotation[frame, person.skeleton.index[f"{side}_wrist"]]
            for name, ahead in (("index_1", 0.03), ("middle_1", 0.0), ("pinky_1", -0.03)):
                fingers[f"{side}_{name}"] = _xyz(wrist + turn @ [ahead, 0.09 * sign, 0.0])
        hand[str(frame)] = [{"annotation2D": {}, "annotation3D": fingers}]
    for part, content in (("body", body), ("hand", hand)):
        (folder / part / "annotation").mkdir(parents=True)
        (folder / part / "annotation" / f"{UID}.json").write_text(json.dumps(content))


def _xyz(place: np.ndarray) -> dict[str, float]:
    return dict(zip("xyz", place.tolist(), strict=True))


def assert_is_truth(found: SourceClip, person: Person, frame_times: np.ndarray, tolerance: Tolerance) -> None:
    """A clip shows the person: head, body, camera and every picture, within a tolerance.

    The clip's world may be larger by the tolerance's scale, and higher or lower.
    """
    assert found.video is not None and found.camera is not None and found.motion_start_s is not None
    times = found.motion_start_s + np.arange(len(found.motion)) / found.motion.fps - DEVICE_START
    truth = person.motion(times)
    head, true_head = found.motion.T_world_head(), truth.T_world_head()
    lift = (head[:, :3, 3] - tolerance.scale * true_head[:, :3, 3]).mean(axis=0)
    np.testing.assert_allclose(lift[:2], 0.0, atol=tolerance.head)
    np.testing.assert_allclose(
        head[:, :3, 3] - lift * [0, 0, 1], tolerance.scale * true_head[:, :3, 3], atol=tolerance.head
    )
    assert np.degrees(rotation_angle(head[:, :3, :3], true_head[:, :3, :3])).max() < 0.05

    # As seen from the head, in the size of our body.
    def seen(motion: Motion) -> np.ndarray:
        position, _ = motion.joint_transforms()
        pose = motion.T_world_head()
        return (position - pose[:, None, :3, 3]) @ pose[:, :3, :3]

    ours = Motion(truth.root_position, truth.joint_quat_wxyz)
    assert np.linalg.norm(seen(found.motion) - seen(ours), axis=-1).max() < tolerance.joints
    assert abs(np.percentile(sole_heights(found.motion).min(axis=1), 25)) < 0.02

    view = T_HEAD_VIEW.copy()
    view[:3, 3] *= tolerance.scale
    np.testing.assert_allclose(found.camera.T_head_camera, view, atol=tolerance.head)
    size = found.video.shape[1]
    centres = np.arange(size) + 0.5
    K = found.camera.K
    u, v = np.meshgrid((centres - K[0, 2]) / K[0, 0], (centres - K[1, 2]) / K[1, 1])
    rays = np.stack((u, v, np.ones_like(u)), axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    shown = found.video_times_s - DEVICE_START
    rotation = (person.T_world_head(shown) @ T_HEAD_VIEW)[:, :3, :3]
    for i in range(0, len(shown), 4):
        # Red and green tell directions: 100 levels a radian.
        off = np.abs(found.video[i, ..., :2] - sky(rays @ rotation[i].T))
        assert off.mean() < 1.5 and np.percentile(off, 99) < 5.0
        number = int(np.argmin(np.abs(frame_times - shown[i])))
        assert abs(frame_times[number] - shown[i]) < 1e-6
        assert abs(np.median(found.video[i, ..., 2]) - frame_blue(number)) < 4


@dataclass(frozen=True)
class Tolerance:
    """How near a clip must be.

    Attributes:
        head: metres, of the head's and the camera's place.
        joints: metres, of any joint as seen from the head.
        scale: of the clip's world.
    """

    head: float = 0.004
    joints: float = 0.01
    scale: float = 1.0
