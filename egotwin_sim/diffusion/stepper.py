"""One modality's way from noise to data with a scheduler of diffusers."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import torch
from torch import Tensor

from egotwin_sim.errors import UserError

DYNAMIC_EXPONENT = 5.0  # of CogVideoX's dynamic guidance


class Stepper:
    """Steps video or motion through timesteps of its own; each modality has one, so their states do not mix.

    A scheduler counts timesteps 0 to T - 1; the model's level is one more, and 0 is clean (``diffusion.schedule``).

    Args:
        scheduler: of diffusers, for v-prediction; it is copied. `CogVideoXDDIMScheduler`, `CogVideoXDPMScheduler`,
            `DDIMScheduler` and `DPMSolverMultistepScheduler` are known to work.
        steps: network calls.
        device: where the timesteps go.
        generator: for schedulers that add noise, one or one for each row.

    Raises:
        UserError: a scheduler of another prediction type, or a number of steps that it cannot take.
    """

    def __init__(
        self,
        scheduler: Any,
        steps: int,
        device: torch.device | str = "cpu",
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> None:
        if scheduler.config.prediction_type != "v_prediction":
            raise UserError(
                f"the scheduler predicts {scheduler.config.prediction_type}; this model predicts the velocity: build "
                'it with prediction_type="v_prediction"'
            )
        top = scheduler.config.num_train_timesteps
        if not 1 <= steps <= top:
            raise UserError(f"{steps} denoising steps; expected 1 to {top}")
        self._scheduler = copy.deepcopy(scheduler)
        self._scheduler.set_timesteps(steps, device=device)
        self._before: Tensor | None = None  # the multistep solver of CogVideoX remembers its last clean estimate
        taken = set(inspect.signature(scheduler.step).parameters)
        self._two_step = "old_pred_original_sample" in taken
        self._extra = {"generator": generator} if "generator" in taken else {}
        timesteps = self._scheduler.timesteps
        self.levels: list[float] = [*(timesteps.float() + 1).tolist(), 0.0]

    def __len__(self) -> int:
        """Network calls."""
        return len(self.levels) - 1

    def step(self, index: int, velocity: Tensor, sample: Tensor) -> Tensor:
        """The sample after call `index`, from level ``levels[index]`` to the next; call it once for each, in order."""
        timesteps = self._scheduler.timesteps
        if self._two_step:
            back = timesteps[index - 1] if index else None
            sample, self._before = self._scheduler.step(
                velocity, self._before, timesteps[index], back, sample, **self._extra, return_dict=False
            )
            return sample
        return self._scheduler.step(velocity, timesteps[index], sample, **self._extra, return_dict=False)[0]


def dynamic_scale(scale: float, progress: float) -> float:
    """CogVideoX's dynamic guidance: from no guidance at pure noise to `scale` at the end.

        w(p) = 1 + (w - 1) (1 - cos(pi p^5)) / 2

    Args:
        scale: w.
        progress: p, the share of the denoising steps that are done, 0 to 1.
    """
    return 1 + (scale - 1) * (1 - math.cos(math.pi * progress**DYNAMIC_EXPONENT)) / 2
