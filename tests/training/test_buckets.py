"""Several data sets: batches of one frame size, every clip of a bucket once an epoch, all a function of the step."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.training.buckets import Buckets
from egotwin_sim.training.latents import LatentClips
from egotwin_sim.training.parts import Part


def clips(first: int, count: int, height: int) -> LatentClips:
    """Clips whose only token says which they are."""
    numbers = np.arange(first, first + count, dtype=np.float32)
    return LatentClips(
        tokens=np.broadcast_to(numbers[:, None, None], (count, 3, 1)).copy(),
        text_index=np.arange(count),
        text=np.broadcast_to(numbers[:, None, None], (count, 2, 4)).astype(np.float16),
        text_mask=np.ones((count, 2), bool),
        latents=np.broadcast_to(numbers[:, None, None, None, None], (count, 2, 1, height, 2)).astype(np.float16),
    )


@pytest.fixture
def buckets() -> Buckets:
    """Nine clips of one size in two data sets, four of another."""
    return Buckets([clips(0, 5, 2), clips(100, 4, 4), clips(5, 4, 2)])


def numbers(buckets: Buckets, step: int, part: Part = Part(), size: int = 2) -> list[int]:  # noqa: B008
    bucket, chosen = buckets.choose(size, 1, step, part)
    batch = bucket.batch(chosen)
    found = batch["tokens"][:, 0, 0].int().tolist()
    assert batch["latents"][:, 0, 0, 0, 0].int().tolist() == found == batch["text"][:, 0, 0].int().tolist()
    assert batch["latents"].shape == (len(chosen), 2, 1, 4 if found[0] >= 100 else 2, 2)
    return found


def test_every_batch_is_of_one_size_and_all_clips_come(buckets: Buckets) -> None:
    assert len(buckets) == 13 and [len(bucket) for bucket in buckets.buckets] == [9, 4]
    batches = [numbers(buckets, step) for step in range(12 * 6)]
    assert all(len({number >= 100 for number in batch}) == 1 for batch in batches)
    small, large = ([n for batch in batches for n in batch if (n >= 100) == kind] for kind in (False, True))
    assert len(small) == 2 * len(large), "as often as they fill batches: 4 and 2 of 6"
    for seen, every in ((small, range(9)), (large, range(100, 104))):
        whole = len(seen) // len(every) * len(every)
        epochs = np.array(seen[:whole]).reshape(-1, len(every))
        assert (np.sort(epochs, axis=1) == np.array(every)).all()
        assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1


def test_batches_are_a_function_of_the_step_and_parts_share_a_bucket(buckets: Buckets) -> None:
    for step in (0, 5, 13, 6):
        assert numbers(buckets, step) == numbers(buckets, step)
        parts = [numbers(buckets, step, Part(index, 2), size=4) for index in range(2)]
        assert parts[0] + parts[1] == numbers(buckets, step, size=4)


def test_one_data_set_is_read_in_the_order_of_its_own_epochs() -> None:
    from egotwin_sim.training.trainer import batch_indices

    single = Buckets([clips(0, 7, 2)])
    for step in range(9):
        assert numbers(single, step, size=3) == batch_indices(7, 3, 1, step).tolist()
