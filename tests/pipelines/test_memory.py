"""Whether a pipeline fits a GPU."""

from __future__ import annotations

import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.models.footprint import RESERVE, require_memory
from egotwin_sim.pipelines.memory import check_memory, needed_memory
from tests.tiny import tiny_published_pipeline


def test_more_clips_need_more_and_every_remedy_less():
    pipeline = tiny_published_pipeline()
    one, _ = needed_memory(pipeline, batch=1, offload=False)
    four, alternatives = needed_memory(pipeline, batch=4, offload=False)
    assert RESERVE < one < four
    assert all(count <= four for count in alternatives.values())
    assert alternatives["--offload --tiling --batch 1"] < one


def test_the_refusal_names_what_would_fit():
    needed, alternatives = needed_memory(tiny_published_pipeline(), batch=64, offload=False)
    fitting = [words for words, count in alternatives.items() if count < needed]
    with pytest.raises(UserError, match="GPU memory.*one clip at a time"):
        require_memory(needed, needed - 1, fitting)


def test_a_processor_is_never_refused():
    check_memory(tiny_published_pipeline(), "cpu", batch=10_000)
