"""From the folders of the training runs to one folder of weights that a stream loads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from egotwin_sim.models.depth import DepthNet
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.text_encoder import load_text_encoder
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.video_vae import VideoVAE
from egotwin_sim.pipelines import EgoTwinPipeline, StreamConfig, StreamPipeline
from egotwin_sim.training.components import load_component


def pack(config: dict[str, Any], init: Path, out: Path) -> None:
    """Collect the averaged weights of the latest stages below ``init`` into ``out``, as bf16.

    Raises:
        UserError: a stage has not been trained.
    """
    pipeline = StreamPipeline(
        load_component(VideoVAE, init, "video_vae"),
        load_component(DepthNet, init, "depth"),
        load_component(MotionVAE, init, "motion_vae"),
        load_component(EgoTwinTransformer3DModel, init, "transformer"),
        load_text_encoder(config["models"]["text_encoder"]),
        StreamConfig(text_encoder=config["models"]["text_encoder"]),
    )
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial)
    EgoTwinPipeline.of_stream(pipeline).save_index(partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
