"""Free-form texts of a motion: phrases of the skills, joined into sentences."""

from __future__ import annotations

import numpy as np

# Third person, present tense. Every skill has several; {target}, {side}, {other}, {angle} are filled in.
PHRASES: dict[str, tuple[str, ...]] = {
    "idle": ("stands still", "waits a moment", "stays in place", "stands there quietly", "pauses"),
    "walk_to": (
        "walks to the {target}", "goes over to the {target}", "approaches the {target}",
        "heads towards the {target}", "steps up to the {target}", "moves to the {target}",
    ),
    "walk": ("walks across the room", "walks forward", "strolls through the room", "takes a few steps", "wanders on"),
    "walk_slow": ("walks slowly to the {target}", "ambles over to the {target}", "goes slowly towards the {target}"),
    "walk_fast": ("walks briskly to the {target}", "strides to the {target}", "hurries to the {target}"),
    "bump": (
        "walks into the {target}", "bumps into the {target}", "keeps walking against the {target}",
        "walks straight on and is stopped by the {target}",
    ),
    "turn_left": ("turns left", "turns to the left", "rotates leftwards", "swings round to the left"),
    "turn_right": ("turns right", "turns to the right", "rotates rightwards", "swings round to the right"),
    "turn_around": ("turns around", "turns right round", "faces about", "makes an about-turn"),
    "turn_to": (
        "turns to the {target}", "turns towards the {target}", "faces the {target}",
        "turns to face the {target}",
    ),
    "look_at": (
        "looks at the {target}", "glances at the {target}", "fixes their eyes on the {target}",
        "studies the {target}",
    ),
    "look_around": ("looks around", "glances about the room", "looks from side to side", "scans the room"),
    "look_left": ("looks to the left", "glances left", "turns the head to the left"),
    "look_right": ("looks to the right", "glances right", "turns the head to the right"),
    "look_down": ("looks down at the floor", "glances down", "lowers the gaze"),
    "look_up": ("looks up", "raises the head", "glances up"),
    "reach_to": (
        "reaches for the {target} with the {side} hand", "touches the {target} with the {side} hand",
        "stretches the {side} arm out to the {target}", "reaches out with the {side} hand towards the {target}",
    ),
    "reach": (
        "reaches forward with the {side} hand", "stretches out the {side} hand",
        "extends the {side} arm to the front", "holds out the {side} hand",
    ),
    "wave": (
        "waves with the {side} hand", "waves hello with the {side} hand", "raises the {side} hand and waves",
        "gives a wave",
    ),
    "open": (
        "opens the door", "pushes the door open", "takes the handle and opens the door",
        "opens the door with the {side} hand", "swings the door open",
    ),
    "crouch": ("crouches down", "squats down", "bends the knees and goes down low", "crouches"),
    "stand_up": ("stands up again", "rises", "gets back up"),
    "sit": ("sits down", "sits down low", "sits down with the hands on the knees", "lowers into a squat seat"),
}  # fmt: skip

SUBJECTS = ("a person", "someone", "the person", "a man", "a woman", "the walker", "")
JOINTS = (", then ", " and then ", " and ", ", and after that ")


def phrase(rng: np.random.Generator, key: str, **words: str) -> str:
    """One phrase of a skill, such as "walks to the red box"."""
    choices = PHRASES[key]
    return choices[int(rng.integers(len(choices)))].format(**words)


def sentence(rng: np.random.Generator, phrases: list[str]) -> str:
    """The phrases in their order as one sentence; without a subject in one case of seven."""
    subject = SUBJECTS[int(rng.integers(len(SUBJECTS)))]
    text = phrases[0] if not subject else f"{subject} {phrases[0]}"
    for part in phrases[1:]:
        text += JOINTS[int(rng.integers(len(JOINTS)))] + part
    return text
