"""A small network as a tracking policy, kept as a diffusers folder."""

from __future__ import annotations

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from egotwin_sim.body.observation import observation_width
from egotwin_sim.errors import UserError
from egotwin_sim.models.checkpoint import WholeModelMixin


class TrackingPolicy(WholeModelMixin, ModelMixin, ConfigMixin):
    """Corrections of the servos' targets from an observation (see `observe`), by a multilayer perceptron.

    Untrained it corrects nothing, as its last layer is zero: the body is then tracked as in the mode "pd". Weights come
    from whoever trained them: `save_pretrained` writes `config.json` and safetensors, `from_pretrained` reads them and
    refuses what does not fit.

    Args:
        num_joints: n, hinges of the body.
        width: of the hidden layers.
        layers: hidden layers.
        largest: radians, the largest correction.
        mean: (21 + 4 n,) subtracted from the observation; zeros by default.
        spread: (21 + 4 n,) that it is then divided by; ones by default.

    Raises:
        UserError: a size is not positive, or the statistics have another width.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        num_joints: int,
        width: int = 256,
        layers: int = 2,
        largest: float = 0.5,
        mean: list[float] | None = None,
        spread: list[float] | None = None,
    ):
        super().__init__()
        if num_joints < 1 or width < 1 or layers < 1 or not largest > 0:
            raise UserError(
                f"a policy of {num_joints} joints, {layers} layers of width {width}, corrections up to {largest}: "
                "all must be positive"
            )
        seen = observation_width(num_joints)
        for name, values in (("mean", mean), ("spread", spread)):
            if values is not None and len(values) != seen:
                raise UserError(f"{name} of the policy has {len(values)} numbers; an observation has {seen}")
        self.observation_width = seen
        self.register_buffer("_mean", torch.tensor(mean or [0.0] * seen), persistent=False)
        self.register_buffer("_spread", torch.tensor(spread or [1.0] * seen), persistent=False)
        sizes = [seen] + [width] * layers
        hidden = [part for a, b in zip(sizes, sizes[1:], strict=False) for part in (nn.Linear(a, b), nn.ELU())]
        self.hidden, self.out = nn.Sequential(*hidden), nn.Linear(width, num_joints)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, observation: Tensor) -> Tensor:
        """(..., 21 + 4 n) -> (..., n), radians."""
        seen = (observation - self._mean) / self._spread
        return self.config.largest * torch.tanh(self.out(self.hidden(seen)))

    @torch.inference_mode()
    def act(self, observation: np.ndarray) -> np.ndarray:
        """The policy of a `Tracker`: (21 + 4 n,) -> (n,), radians.

        Raises:
            UserError: the observation is of another body.
        """
        if observation.shape != (self.observation_width,):
            raise UserError(
                f"the policy was made for a body of {self.config.num_joints} hinges, which has observations of "
                f"({self.observation_width},), not {observation.shape}; give one that was trained on this body"
            )
        return self(torch.as_tensor(observation, dtype=torch.float32)).numpy().astype(np.float64)
