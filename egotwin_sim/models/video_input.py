"""The transformer's video input in the published form: the latents themselves, and the first frame's beside them."""

from __future__ import annotations

import torch
from torch import Tensor

from egotwin_sim.errors import UserError


def published_input(noisy: Tensor, first: Tensor, in_channels: int) -> Tensor:
    """What the transformer sees of a clip that is denoised without a view memory.

    A text-to-video CogVideoX takes the latents alone; latent 0 is the clean first frame among them. An image-to-video
    one takes, beside each latent, that of the image: it stands beside latent 0, and zeros beside the others.

    Args:
        noisy: (B, F, C, h, w), latent 0 clean.
        first: (B, 1, C, h, w), the first frame's latent.
        in_channels: of the transformer, C or 2 C.

    Returns:
        (B, F, in_channels, h, w).

    Raises:
        UserError: a transformer that takes neither.
    """
    channels = noisy.shape[2]
    if in_channels == channels:
        return noisy
    if in_channels != 2 * channels:
        raise UserError(
            f"the transformer takes {in_channels} video channels; expected {channels} (text to video) or "
            f"{2 * channels} (image to video) for this video VAE: the weights are of another config"
        )
    beside = torch.cat([first, first.new_zeros(first.shape[0], noisy.shape[1] - 1, *first.shape[2:])], dim=1)
    return torch.cat([noisy, beside.to(noisy)], dim=2)
