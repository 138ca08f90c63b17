"""From shared weights of text and video to weights of text's own, which start as a copy."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from egotwin_sim.models.transformer_layers import TEXT, VIDEO

SHARED, OWN = "transformer_blocks.", "text_blocks."


def with_own_text(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a transformer with `separate_text` that computes what one with shared weights does.

    Projections, norms and feed-forwards are copied; the norms' two modulations go to the branch that each is for.

    Args:
        weights: state of the transformer with shared weights, its own or a CogVideoX's.
    """
    state: dict[str, Tensor] = {}
    for name, value in weights.items():
        state[name] = value
        if name.startswith(SHARED):
            own = OWN + name.removeprefix(SHARED)
            state[own] = value.clone()
            if ".norm1.linear." in name or ".norm2.linear." in name:
                experts = value.chunk(2)
                state[name], state[own] = experts[VIDEO].clone(), experts[TEXT].clone()
    return state
