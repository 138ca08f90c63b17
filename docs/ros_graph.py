"""Draws docs/ros_graph.png, the nodes and their topics: `python docs/ros_graph.py` (matplotlib is in the extra dev)."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

BOXES = (  # centre x, y, width, height, words, colour
    (0.8, 4.0, 1.2, 0.9, "you", "#eeeeee"),
    (4.2, 4.0, 2.4, 1.6, "world_model\nthe dream", "#cfe2ff"),
    (9.6, 4.0, 2.4, 1.6, "mujoco_bridge\nsimulation and\nhead camera", "#d6f0d0"),
    (4.2, 0.9, 2.4, 0.9, "policy\n(optional)", "#ffe4bf"),
    (13.6, 2.4, 1.8, 1.6, "RViz,\nrecorders,\nyour nodes", "#eeeeee"),
)
ARROWS = (  # from x, y, to x, y, words, centre of the words
    (1.5, 4.0, 2.9, 4.0, "prompt", (2.2, 4.25)),
    (5.5, 4.5, 8.3, 4.5, "joint_trajectory", (6.9, 4.75)),
    (8.3, 3.6, 5.5, 3.6, "head_camera/image_raw\nhead_pose  root_pose\njoint_states", (6.9, 3.0)),
    (3.7, 3.1, 3.7, 1.45, "token_request", (2.75, 2.3)),
    (4.7, 1.45, 4.7, 3.1, "motion_tokens", (5.6, 2.05)),
    (9.6, 0.9, 5.5, 0.9, "head_camera/image_raw  root_pose  joint_states", (8.1, 0.6)),
    (10.9, 3.7, 12.6, 2.9, "head_camera/*\nodom  tf  clock\ndiagnostics", (12.4, 3.9)),
    (13.6, 5.6, 13.6, 3.3, "", (0, 0)),
)
LINES = (  # without a head: the beginnings of arrows with a bend
    ((9.6, 3.1), (9.6, 0.9), "", (0, 0)),
    ((4.2, 4.9), (4.2, 5.6), "", (0, 0)),
    ((4.2, 5.6), (13.6, 5.6), "generated/image_raw  generated/head_pose  motion  diagnostics", (8.9, 5.8)),
)
INK = "#333333"


def main() -> None:
    """Write the picture beside this file."""
    figure, axes = plt.subplots(figsize=(12, 5), dpi=80)
    for x, y, width, height, words, colour in BOXES:
        corner = x - width / 2, y - height / 2
        axes.add_patch(FancyBboxPatch(corner, width, height, "round,pad=0.05", fc=colour, ec=INK))
        axes.text(x, y, words, ha="center", va="center", fontsize=10)
    for x0, y0, x1, y1, words, place in ARROWS:
        axes.add_patch(FancyArrowPatch((x0, y0), (x1, y1), arrowstyle="-|>", mutation_scale=14, color=INK,
                                       shrinkA=0, shrinkB=0))  # fmt: skip
        axes.text(*place, words, ha="center", va="center", fontsize=8.5, family="monospace")
    for (x0, y0), (x1, y1), words, place in LINES:
        axes.plot([x0, x1], [y0, y1], color=INK, linewidth=1)
        axes.text(*place, words, ha="center", va="center", fontsize=8.5, family="monospace")
    axes.set_xlim(0, 14.7)
    axes.set_ylim(0.2, 6.1)
    axes.axis("off")
    figure.savefig(Path(__file__).with_suffix(".png"), bbox_inches="tight")


if __name__ == "__main__":
    main()
