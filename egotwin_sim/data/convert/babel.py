"""The texts of BABEL: what is done in the recordings of AMASS, and when."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from egotwin_sim.data.convert.amass_files import recording_key
from egotwin_sim.data.convert.captions import Caption
from egotwin_sim.errors import UserError

# What lies between two actions has this for a label, which says nothing of the motion.
_NO_ACTION = ("transition", "")


@dataclass(frozen=True)
class Annotation:
    """Texts of one recording.

    Attributes:
        captions: with times, or for the whole recording.
        split: "train", "val" or "test", from the name of the file; else empty.
        seconds: how long the recording is; None if that is not said.
    """

    captions: tuple[Caption, ...]
    split: str = ""
    seconds: float | None = None


def read_babel(paths: list[Path]) -> dict[str, Annotation]:
    """Read BABEL's `.json` files.

    Each holds objects with `feat_p`, the path of the recording, `dur`, its seconds, and `frame_ann` and `seq_ann`, or
    lists of those by several people (`frame_anns`, `seq_anns`), with `labels`: `raw_label`, and `start_t` and `end_t`
    in seconds. Labels with times are preferred to those of the whole; transitions are left out.

    Args:
        paths: the files, such as `train.json`, `val.json` and `extra_train.json`.

    Returns:
        Annotations by `recording_key`.

    Raises:
        UserError: a file cannot be read, or is none of BABEL's.
    """
    found: dict[str, Annotation] = {}
    for path in paths:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read as JSON ({error}); expected annotations of BABEL") from error
        entries = list(value.values()) if isinstance(value, dict) else []
        if not entries or not all(isinstance(each, dict) and isinstance(each.get("feat_p"), str) for each in entries):
            raise UserError(f"{path} has no objects with feat_p; expected annotations of BABEL")
        split = next((name for name in ("train", "val", "test") if path.stem.endswith(name)), "")
        for each in entries:
            key, made = recording_key(each["feat_p"]), _annotation(path, each, split)
            if key in found:  # labels of the same recording by someone else
                made = replace(found[key], captions=found[key].captions + made.captions)
            found[key] = made
    return found


def _annotation(path: Path, entry: dict[str, Any], split: str) -> Annotation:
    try:
        timed = [each for part in _parts(entry, "frame_ann") for each in part["labels"]]
        whole = [each for part in _parts(entry, "seq_ann") for each in part["labels"]]
        captions = [Caption(_text(each), float(each["start_t"]), float(each["end_t"])) for each in timed]
        captions = captions or [Caption(_text(each)) for each in whole]
        seconds = None if entry.get("dur") is None else float(entry["dur"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: the labels of {entry['feat_p']} are not BABEL's ({error!r})") from error
    return Annotation(tuple(each for each in captions if each.text.lower() not in _NO_ACTION), split, seconds)


def _parts(entry: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Annotations of one kind, by one person or several."""
    return [each for each in [entry.get(name), *(entry.get(f"{name}s") or [])] if each is not None]


def _text(label: dict[str, Any]) -> str:
    return str(label.get("raw_label") or label.get("proc_label") or "").strip()
