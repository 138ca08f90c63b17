"""The interaction mask, written out by hand for small windows."""

from __future__ import annotations

import pytest
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.models.interaction_mask import interaction_mask, motion_chunks


def rows(*lines: str) -> torch.Tensor:
    """A mask from lines of 1 and 0 (spaces are for the eye)."""
    return torch.tensor([[mark == "1" for mark in line.replace(" ", "")] for line in lines])


# L = 2: latents 0, 1, 2 of one token each, motion tokens 0..4, one text token: [c | O0 O1 O2 | P0 a1 a2 a3 a4].
BIDIRECTIONAL = rows(
    "1 111 11111",  # text
    "1 111 10000",  # O0: the initial pose
    "1 111 01100",  # O1: A0 = tokens 1, 2
    "1 111 00011",  # O2: A1 = tokens 3, 4
    "1 100 11111",  # P0: the initial frame
    "1 110 11111",  # token 1, of A0: O0 and O1
    "1 110 11111",  # token 2, of A0
    "1 011 11111",  # token 3, of A1: O1 and O2
    "1 011 11111",  # token 4, of A1
)
CAUSAL = rows(
    "1 000 00000",  # text sees text only
    "1 100 10000",
    "1 110 01100",
    "1 111 00011",
    "1 100 10000",  # P0: nothing of a later chunk
    "1 110 11100",
    "1 110 11100",
    "1 011 11111",
    "1 011 11111",
)
CAUSAL_WITHOUT_INTERACTION = rows(
    "1 000 00000",
    "1 100 10000",
    "1 110 11100",
    "1 111 11111",
    "1 100 10000",
    "1 110 11100",
    "1 110 11100",
    "1 111 11111",
    "1 111 11111",
)


def test_bidirectional_mask_of_three_latents():
    assert torch.equal(interaction_mask(3, 1, 5, 1), BIDIRECTIONAL)


def test_causal_mask_of_three_latents():
    assert torch.equal(interaction_mask(3, 1, 5, 1, temporal="causal"), CAUSAL)


def test_without_interaction_everything_is_seen():
    assert interaction_mask(3, 1, 5, 1, interaction=False).all()
    assert torch.equal(interaction_mask(3, 1, 5, 1, interaction=False, temporal="causal"), CAUSAL_WITHOUT_INTERACTION)


def test_every_token_of_a_latent_has_the_latents_row_and_column():
    spread = torch.tensor([0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 6, 7, 8])
    for temporal, small in (("bidirectional", BIDIRECTIONAL), ("causal", CAUSAL)):
        assert torch.equal(interaction_mask(3, 3, 5, 1, temporal=temporal), small[spread][:, spread])


def test_window_with_a_sink_and_a_gap():
    # Latents 0, 7, 8; motion tokens 0, 13, 14, 15, 16. Latent 6, which A6 = {13, 14} would see too, is not there.
    expected = rows(
        "1 000 00000",
        "1 100 10000",
        "1 110 01100",
        "1 111 00011",
        "1 100 10000",
        "1 010 11100",
        "1 010 11100",
        "1 011 11111",
        "1 011 11111",
    )
    assert torch.equal(interaction_mask(3, 1, 5, 1, temporal="causal", latent_positions=[0, 7, 8]), expected)


def test_window_without_the_first_chunk_has_two_motion_tokens_for_each_latent():
    assert motion_chunks([4, 5]) == [4, 4, 5, 5]
    expected = rows("11 1100", "11 0011", "10 1111", "10 1111", "11 1111", "11 1111")
    assert torch.equal(interaction_mask(2, 1, 4, 0, latent_positions=[4, 5]), expected)


def test_video_alone_and_motion_alone():
    assert interaction_mask(3, 2, 0, 4).all()
    assert torch.equal(interaction_mask(3, 1, 0, 1, temporal="causal"), CAUSAL[:4, :4])
    motion = [0, 4, 5, 6, 7, 8]
    assert torch.equal(interaction_mask(3, 0, 5, 1, temporal="causal"), CAUSAL[motion][:, motion])


def test_text_padding_is_seen_by_itself_alone():
    mask = interaction_mask(2, 1, 3, 2, text_mask=torch.tensor([[True, True], [True, False]]))
    assert torch.equal(mask[0], interaction_mask(2, 1, 3, 2))
    assert mask[1, :, 1].tolist() == [False, True, False, False, False, False, False]
    others = [0, 2, 3, 4, 5, 6]
    assert torch.equal(mask[1][others][:, others], interaction_mask(2, 1, 3, 2)[others][:, others])


@pytest.mark.parametrize("temporal", ["bidirectional", "causal"])
def test_no_row_is_empty_even_without_any_text(temporal):
    mask = interaction_mask(2, 1, 3, 2, temporal=temporal, text_mask=torch.zeros(1, 2, dtype=torch.bool))
    assert mask.any(-1).all()


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((3, 1, 4, 0), {}, "expected 5"),
        ((2, 1, 0, 0), {"latent_positions": [3, 3]}, "rising"),
        ((2, 1, 0, 0), {"latent_positions": [-1, 0]}, "from 0 up"),
        ((2, 1, 0, 0), {"latent_positions": [0]}, "expected 2"),
        ((2, 1, 0, 0), {"temporal": "backwards"}, "causal"),
    ],
)
def test_wrong_arguments_are_named(arguments, options, says):
    with pytest.raises(UserError, match=says):
        interaction_mask(*arguments, **options)
