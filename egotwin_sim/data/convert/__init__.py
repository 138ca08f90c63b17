"""Conversion of other people's data sets: one source a kind, one runner for all.

A source knows a layout on disk (`source.ClipSource`); the runner resamples, crops, cuts, retargets and writes.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from egotwin_sim.errors import UserError


class Kind(NamedTuple):
    """Where the class of a kind of data set is, and what the command line says of it.

    Attributes:
        module: its module in this package.
        cls: its class.
        what: what it is, one line.
        layout: the files expected under the path.
    """

    module: str
    cls: str
    what: str
    layout: str


SOURCES: dict[str, Kind] = {
    "nymeria": Kind(
        "nymeria",
        "NymeriaSource",
        "Nymeria: video of Aria glasses, body from XSens.",
        "<sequence>/body/xdata.npz, narration/*.csv, recording_head/mps/slam/*, recording_head/data/data.vrs or "
        "rgb.mp4 with rgb_timestamps.csv",
    ),
    "nymeria-plus": Kind(
        "nymeria",
        "NymeriaPlusSource",
        "NymeriaPlus: the same with the SMPL body.",
        "as nymeria, with <sequence>/body/xdata_smpl_neutral.npz",
    ),
    "ego-exo4d": Kind(
        "ego_exo4d",
        "EgoExo4DSource",
        "Ego-Exo4D, with the bodies of Ego-Exo4D-HM.",
        "takes.json, captures/<capture>/timesync.csv, takes/<take>/frame_aligned_videos/*_214-1.mp4, "
        "takes/<take>/trajectory/*, annotations/*, hm/<take>/*.npz",
    ),
    "amass": Kind(
        "amass",
        "AmassSource",
        "AMASS: motion alone, SMPL-H or SMPL-X parameters.",
        "<data set>/<subject>/*.npz; texts by option",
    ),
    "humanml3d": Kind(
        "humanml3d",
        "HumanML3DSource",
        "HumanML3D: motion alone, with texts.",
        "new_joint_vecs/*.npy, texts/*.txt, train.txt, val.txt, test.txt",
    ),
    "folder": Kind(
        "folder",
        "FolderSource",
        "Your own recordings.",
        "<name>.mp4, <name>.bvh or <name>.npz, <name>.txt or <name>.json, camera.json or <name>.camera.json",
    ),
}


def source_class(kind: str) -> type:
    """The class of a kind of data set.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in SOURCES:
        raise UserError(f"there is no kind of data set {kind!r}: give one of {', '.join(SOURCES)}")
    entry = SOURCES[kind]
    cls: type = getattr(import_module(f"{__name__}.{entry.module}"), entry.cls)
    return cls
