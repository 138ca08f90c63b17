"""A critic that tells dreamt from true chunks, so that what was never seen becomes a picture instead of a smear.

Distances to the true picture cannot ask for that: where a view could not be known, their best answer is the mean of
all that it might have been. A critic (Goodfellow et al., arXiv 1406.2661; patches as in arXiv 1611.07004, the hinge
loss of arXiv 1705.02894) asks only that a chunk looks like one of the room.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from egotwin_sim.models.video_vae import FRAMES_PER_LATENT


class PatchCritic(nn.Module):
    """How true each patch of a chunk looks, at half resolution: outlines and surfaces count, not the codec's grain.

    The frames of a chunk are seen together, so that what is made up must also move with the head.

    Args:
        channels: widths at 1/4, 1/8 and 1/16 of the picture.
    """

    def __init__(self, channels: tuple[int, int, int] = (48, 96, 128)) -> None:
        super().__init__()
        widths = (3 * FRAMES_PER_LATENT, *channels)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in channels[1:])
        self.out = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(self, chunks: Tensor) -> Tensor:
        """Scores (N, 1, H/16, W/16) of chunks (N, 3, 4, H, W) in [-1, 1]; positive looks true."""
        x = F.avg_pool2d(chunks.flatten(1, 2), 2)
        x = F.leaky_relu(self.layers[0](x), 0.2)
        for layer, norm in zip(self.layers[1:], self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x)), 0.2)
        return self.out(x)


def critic_losses(critic: PatchCritic, dreamt: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """What the dreamer and what the critic minimise, for chunks (N, 3, 4, H, W); neither trains the other's weights."""
    frozen = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    dreamer = -functional_call(critic, frozen, (dreamt,)).float().mean()
    said_true, said_dreamt = critic(true).float(), critic(dreamt.detach()).float()
    return dreamer, F.relu(1 - said_true).mean() + F.relu(1 + said_dreamt).mean()
