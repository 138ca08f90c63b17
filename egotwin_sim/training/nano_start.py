"""Transformers that start from the shipped nano weights, as the paper's starts from CogVideoX's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from egotwin_sim.errors import UserError
from egotwin_sim.models.denoiser import Denoiser
from egotwin_sim.models.separate_text import with_own_text
from egotwin_sim.models.transformer_layers import VIDEO
from egotwin_sim.models.vidmld import VidMLD

WEIGHTS = "diffusion_pytorch_model.safetensors"


def start_from(model: Denoiser, weights: Path) -> None:
    """Give a new transformer the text and video weights of a trained one, in place; the rest stays as it is.

    Of the trained one's video input only the first channels are taken, those of the noisy latents: what conditions
    them in the form with a view memory is not there in the published form.

    Args:
        model: of the same width and number of layers.
        weights: the folder of an `EgoTwinTransformer3DModel`.

    Raises:
        UserError: no weights there, or of another width or number of layers.
    """
    if not (weights / WEIGHTS).is_file():
        raise UserError(f"{weights} holds no {WEIGHTS} to start from")
    trained = {
        name: value.float()
        for name, value in load_file(weights / WEIGHTS).items()
        if not name.startswith("motion_") and name != "video_time_to_motion.weight"
    }
    trained["patch_embed.proj.weight"] = trained["patch_embed.proj.weight"][:, : model.config.in_channels]
    if isinstance(model, VidMLD):
        given = vidmld_weights(trained)
    else:
        given = with_own_text(trained) if model.config.separate_text else trained
    state = model.state_dict()
    unfit = [name for name, value in given.items() if name not in state or state[name].shape != value.shape]
    if unfit:
        raise UserError(
            f"the transformer cannot start from {weights}: {unfit[0]} is of another shape; expected the same width, "
            "heads, layers and text"
        )
    model.load_state_dict(given, strict=False)


def vidmld_weights(trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What VidMLD takes over: the video's part of every layer, and the maps in and out.

    Layers beyond the trained one's do nothing at first.
    """
    given: dict[str, Tensor] = {}
    for name, value in trained.items():
        if name.startswith("transformer_blocks."):
            ours = name.replace("transformer_blocks.", "layers.", 1)
            modulates = ".norm1.linear." in name or ".norm2.linear." in name
            given[ours] = value.chunk(2)[VIDEO] if modulates else value
        elif name.startswith("patch_embed.proj."):
            given[name.replace("patch_embed.proj.", "video_in.", 1)] = value.flatten(1) if value.ndim > 1 else value
        elif name.startswith("patch_embed.text_proj."):
            given[name.replace("patch_embed.text_proj.", "text_in.", 1)] = value
        else:
            given[name] = value
    return given
