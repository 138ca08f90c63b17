"""The two ways to write a body's motion as features, behind one interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import head_centric, root_centric
from egotwin_sim.motion.head_centric import Layout
from egotwin_sim.motion.motion import Motion
from egotwin_sim.motion.root_centric import RootLayout


@dataclass(frozen=True)
class Representation:
    """A way to write a motion as features (T, D).

    Attributes:
        of_width: D to the layout of the features.
        encode: a motion, and what came before it, to features in the clip's canonical frame.
        decode: features, skeleton, frames per second and the canonical frame's pose in the world to a motion.
        frame: a motion to that pose (4, 4).
    """

    of_width: Callable[[int], Layout | RootLayout]
    encode: Callable[..., np.ndarray]
    decode: Callable[..., Motion]
    frame: Callable[[Motion], np.ndarray]


def _head_frame(motion: Motion) -> np.ndarray:
    return head_centric.canonical_frame(motion[:1].T_world_head())[0]


REPRESENTATIONS = {
    "head": Representation(Layout.of_width, head_centric.encode, head_centric.decode, _head_frame),
    "root": Representation(RootLayout.of_width, root_centric.encode, root_centric.decode, root_centric.root_frame),
}
"""By name: "head" is the paper's, "root" that of its ablation."""


def find_representation(name: str) -> Representation:
    """A representation by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in REPRESENTATIONS:
        raise UserError(f"representation is {name!r}; expected {' or '.join(REPRESENTATIONS)}")
    return REPRESENTATIONS[name]
