"""Finding the weights of earlier stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from egotwin_sim.errors import UserError
from egotwin_sim.models.checkpoint import load_whole
from egotwin_sim.models.depth import DepthNet
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.text_encoder import TextEncoder, load_text_encoder
from egotwin_sim.models.video_vae import VideoVAE

# Where each component is looked for in the folder of --init: the latest stage that trained it first.
STAGES_OF = {
    "video_vae": ("refine", "video-vae"),
    "depth": ("video-vae",),
    "motion_vae": ("motion-vae",),
    "transformer": ("refine", "distill", "stream", "joint", "text-motion"),
}


def find_component(init: Path, name: str, before: str | None = None) -> Path | None:
    """The folder of a component's weights below ``init``: ``init/<name>`` or ``init/<stage>/<name>``.

    Args:
        init: a run's folder, a folder of runs named like their stages, or a pipeline's folder.
        name: a key of ``STAGES_OF``.
        before: only stages that come before this one; all when None.
    """
    stages = STAGES_OF[name]
    if before in STAGES_OF["transformer"]:
        order = STAGES_OF["transformer"]
        later = order[: order.index(before) + 1]
        stages = tuple(stage for stage in stages if stage not in later)
    for folder in (init / name, *(init / stage / name for stage in stages)):
        if (folder / "config.json").is_file():
            return folder
    return None


def load_component(cls: Any, init: Path | None, name: str, before: str | None = None) -> Any:
    """Load a component's weights (a diffusers folder), in eval mode.

    Raises:
        UserError: no ``init``, or no such component in it.
    """
    folder = find_component(init, name, before) if init is not None else None
    if folder is None:
        places = " or ".join(f"<init>/{stage}/{name}" for stage in STAGES_OF[name])
        raise UserError(f"no trained {name} found (looked for {places}); train that stage first and give --init <init>")
    return load_whole(cls, folder).eval()


class FrozenNetworks(NamedTuple):
    """The networks around the transformer that its stages use as they are."""

    vae: VideoVAE
    depth_net: DepthNet
    motion_vae: MotionVAE
    text_encoder: TextEncoder


def load_frozen(config: dict[str, Any], init: Path | None, before: str) -> FrozenNetworks:
    """The networks around the transformer, for the stage ``before``; see ``load_component``."""
    return FrozenNetworks(
        load_component(VideoVAE, init, "video_vae", before=before),
        load_component(DepthNet, init, "depth"),
        load_component(MotionVAE, init, "motion_vae"),
        load_text_encoder(config["models"]["text_encoder"]),
    )
