"""Reading Biovision Hierarchy (.bvh) files."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from egotwin_sim.motion.capture import Capture, Lines, euler_matrix
from egotwin_sim.motion.retarget import Imported, retarget
from egotwin_sim.motion.skeleton import Skeleton

_CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in "xyz")


def load_bvh(
    path: str | os.PathLike[str],
    *,
    fps: float = 16.0,
    skeleton: Skeleton | None = None,
    scale: float = 1.0,
    joint_map: Mapping[str, str] | None = None,
    rest_frame: int | None = None,
) -> Imported:
    """Read a BVH file and retarget it to our skeleton.

    Args:
        path: the file.
        fps: frames per second of the result.
        skeleton: the body of the result; the default one without it.
        scale: factor on the travelled way, on top of the one that makes the source's legs as long as ours.
        joint_map: our joint names to the file's, where the names do not tell.
        rest_frame: the frame in which the body stands upright, facing forward; without it, all rotations zero.

    Returns:
        The motion, in our axes with its feet on the floor, and a report of what was mapped.

    Raises:
        UserError: the file cannot be read as BVH (it names file and line), or its body cannot be mapped.
    """
    return retarget(read_bvh(path), fps=fps, skeleton=skeleton, scale=scale, joint_map=joint_map, rest_frame=rest_frame)


def read_bvh(path: str | os.PathLike[str]) -> Capture:
    """Read a BVH file on its own skeleton. Euler channels may have any order, joints any number of channels."""
    lines = Lines(path)
    if lines.expect("HIERARCHY").upper() != "HIERARCHY":
        raise lines.error("expected HIERARCHY, the first line of a BVH file; is it another format?")
    names, parents, offsets, channels, tips = _hierarchy(lines)
    frames, rate = _header(lines)

    columns = [(joint, channel) for joint, own in enumerate(channels) for channel in own]
    rows = []
    for frame in range(frames):
        words = lines.expect(f"frame {frame} of {frames}").split()
        if len(words) != len(columns):
            raise lines.error(f"frame {frame} has {len(words)} values; expected {len(columns)}, one per channel")
        rows.append(lines.numbers(words, f"frame {frame}"))
    if lines.next() is not None:
        raise lines.error(f"there are more frames than the {frames} that the file declares; correct 'Frames:'")

    values = np.array(rows)
    rotations = np.empty((frames, len(names), 3, 3))
    translations = {}
    for joint in range(len(names)):
        own = [(i, channel) for i, (owner, channel) in enumerate(columns) if owner == joint]
        turning = [(i, channel[0]) for i, channel in own if channel.endswith("rotation")]
        rotations[:, joint] = euler_matrix(values[:, [i for i, _ in turning]], "".join(axis for _, axis in turning))
        moving = [(i, "xyz".index(channel[0])) for i, channel in own if channel.endswith("position")]
        if moving:
            translations[joint] = np.tile(offsets[joint], (frames, 1))
            translations[joint][:, [axis for _, axis in moving]] = values[:, [i for i, _ in moving]]
    return Capture(
        str(path), tuple(names), tuple(parents), np.array(offsets), tuple(tips), rotations, translations, rate
    )


def _hierarchy(lines: Lines) -> tuple[list[str], list[int], list[np.ndarray], list[list[str]], list]:
    """Everything up to the line MOTION."""
    names: list[str] = []
    parents: list[int] = []
    offsets: list[np.ndarray] = []
    channels: list[list[str]] = []
    tips: list[tuple[int, np.ndarray]] = []
    open_blocks: list[int] = []  # joint index, -1 for an end site
    while True:
        line = lines.expect("the line MOTION")
        keyword, _, rest = line.partition(" ")
        keyword = keyword.upper()
        if keyword in ("ROOT", "JOINT", "END"):
            if not len(names) == len(offsets) == len(channels):
                raise lines.error(f"the joint {names[-1]} has no OFFSET and CHANNELS above this line; expected both")
            _open(lines, keyword, rest.strip(), names, open_blocks, parents)
            if "{" not in line and lines.expect("{") != "{":
                raise lines.error(f"expected {{ after {line}")
        elif keyword == "OFFSET":
            offset = lines.numbers(rest.split(), "OFFSET")
            if len(offset) != 3 or not open_blocks:
                raise lines.error(f"OFFSET has {len(offset)} values; expected 3, inside a joint")
            if open_blocks[-1] < 0:
                tips.append((open_blocks[-2], offset))
            elif len(offsets) == open_blocks[-1]:
                offsets.append(offset)
            else:
                raise lines.error(f"the joint {names[open_blocks[-1]]} has a second OFFSET; expected one")
        elif keyword == "CHANNELS":
            own = [word.lower() for word in rest.split()[1:]]
            if not open_blocks or open_blocks[-1] != len(channels):
                raise lines.error("CHANNELS stands where none belongs; expected it once in each joint")
            count = rest.split()[:1]
            unknown = [word for word in own if word not in _CHANNELS]
            if count != [str(len(own))] or unknown or len(set(own)) != len(own):
                raise lines.error(
                    f"the channels of {names[-1]} are '{rest.strip()}'; expected their number and then names such as "
                    "Zrotation, each once"
                )
            channels.append(own)
        elif keyword == "}":
            if not open_blocks:
                raise lines.error("a } closes nothing")
            if not len(names) == len(offsets) == len(channels):
                raise lines.error(f"the joint {names[-1]} ends without an OFFSET and CHANNELS line; expected both")
            open_blocks.pop()
        elif keyword == "MOTION":
            break
        else:
            raise lines.error(f"'{line[:60]}' is no line of a BVH hierarchy")
    if open_blocks:
        raise lines.error(f"MOTION comes before {len(open_blocks)} blocks are closed; the file lacks }}")
    if not names:
        raise lines.error("the hierarchy has no ROOT; expected one")
    return names, parents, offsets, channels, tips


def _open(lines: Lines, keyword: str, name: str, names: list[str], open_blocks: list[int], parents: list[int]) -> None:
    """Enter a ROOT, JOINT or End Site block."""
    if keyword == "ROOT":
        if names:
            raise lines.error(f"a second ROOT '{name}'; a file with several bodies must be split first")
    elif not open_blocks or open_blocks[-1] < 0:
        raise lines.error(
            f"{keyword} '{name}' stands outside a joint; expected ROOT first"
            if not names
            else f"{keyword} '{name}' stands outside a joint"
        )
    if keyword == "END":
        open_blocks.append(-1)
        return
    name = name.rstrip("{").strip()
    if not name or name in names:
        raise lines.error(f"the joint name '{name}' is {'used twice' if name else 'missing'}; expected a new one")
    parents.append(open_blocks[-1] if open_blocks else -1)
    names.append(name)
    open_blocks.append(len(names) - 1)


def _header(lines: Lines) -> tuple[int, float]:
    """Number of frames and frames per second."""
    values = []
    for title in ("Frames:", "Frame Time:"):
        line = lines.expect(title)
        if not line.lower().startswith(title.lower()):
            raise lines.error(f"expected '{title}', found '{line[:60]}'")
        number = lines.numbers(line[len(title) :].split(), title)
        if len(number) != 1 or number[0] <= 0:
            raise lines.error(f"expected one positive number after '{title}', found '{line[:60]}'")
        values.append(float(number[0]))
    if values[0] != int(values[0]):
        raise lines.error(f"the number of frames is {values[0]}; expected a whole number")
    frames, rate = int(values[0]), 1.0 / values[1]
    # The file rounds the period: .0083333 s is meant to be 120 Hz. 29.97 Hz stays what it is.
    return frames, round(rate) if abs(rate - round(rate)) < 1e-4 * rate else rate
