"""Finding our joints among the names that motion capture tools give theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from egotwin_sim.errors import UserError

# Our joints without their side, and what others call them, best first. The order of the entries matters: a name that
# means two things ("shoulder", "foot") goes to the first entry that still needs it.
_ALIASES: dict[str, tuple[str, ...]] = {
    "pelvis": ("pelvis", "hips", "hip", "lowertorso"),
    "neck": ("neck", "lowerneck", "neck1", "neck01", "neck0"),
    "head": ("head", "skull"),
    "hip": ("upleg", "upperleg", "thigh", "femur", "hip"),
    "knee": ("knee", "lowerleg", "lowleg", "shin", "calf", "tibia", "leg"),
    "ankle": ("ankle", "foot"),
    "foot": ("toebase", "toe", "toes", "toe0", "ball", "forefoot", "foot"),
    "shoulder": ("upperarm", "uparm", "humerus", "arm", "shldr", "shoulder"),
    "collar": ("collar", "clavicle", "clav", "shoulder"),
    "elbow": ("elbow", "forearm", "lowerarm", "lowarm", "radius"),
    "wrist": ("hand", "wrist"),
}
_SIDED = tuple(name for name in _ALIASES if name not in ("pelvis", "neck", "head"))
_BASES = {alias for name in _SIDED for alias in _ALIASES[name]}
_SIDES = {"left": "left", "l": "left", "lft": "left", "right": "right", "r": "right", "rgt": "right", "rt": "right"}
# Prefixes that tools put before every name.
_NOISE = {"mixamorig", "character", "bip", "valvebiped", "def", "org", "avg", "bn", "bone", "jnt", "cc", "base"}
_NOISE |= {"b", "m", "f", "j"}


def split_name(name: str) -> tuple[str, str]:
    """Side ("left", "right" or "") and bare lower-case name, without the decoration of the tool that wrote it.

    "mixamorig:LeftUpLeg", "L_UpLeg", "upleg.l" and "Bip01 L UpLeg" all give ("left", "upleg").
    """
    name = re.split(r"[:|]", name)[-1]
    tokens = [token.lower() for token in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    while len(tokens) > 1 and (tokens[0] in _NOISE or (tokens[0].isdigit())):
        tokens = tokens[1:]
    side = next((_SIDES[token] for token in tokens if token in _SIDES), "")
    if side and len(tokens) > 1:
        tokens.remove(next(token for token in tokens if token in _SIDES))
    base = "".join(tokens)
    if not side:
        for word, meaning in _SIDES.items():  # "lfemur", "leftupleg"
            if base.startswith(word) and base[len(word) :] in _BASES:
                return meaning, base[len(word) :]
    return side, base


def map_joints(
    source_names: Sequence[str], target_names: Sequence[str], joint_map: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Our joint names to the source's, as far as names tell. The spine joints are left to the caller.

    Args:
        source_names: the source's joints.
        target_names: our joints.
        joint_map: entries that the user gives; they win.

    Raises:
        UserError: joint_map names a joint that is not there.
    """
    mapped = dict(joint_map or {})
    for ours, theirs in mapped.items():
        if ours not in target_names:
            raise UserError(f"joint_map has '{ours}', which is no joint of ours; we have {', '.join(target_names)}")
        if theirs not in source_names:
            raise UserError(f"joint_map has '{theirs}', which the file lacks; it has {', '.join(source_names)}")
    keys: dict[tuple[str, str], str] = {}
    for name in source_names:
        keys.setdefault(split_name(name), name)
    taken = set(mapped.values())
    for base, aliases in _ALIASES.items():
        for side in ("left", "right") if base in _SIDED else ("",):
            ours = f"{side}_{base}" if side else base
            if ours in mapped or ours not in target_names:
                continue
            for alias in aliases:
                found = keys.get((side, alias))
                if found is not None and found not in taken:
                    mapped[ours] = found
                    taken.add(found)
                    break
    return mapped
