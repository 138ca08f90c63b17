"""The GPU benchmark's count of work, which needs no GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from egotwin_sim.errors import UserError
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def gpu_speed(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("gpu_speed")


def test_a_product_counts_two_a_multiply_add(gpu_speed: ModuleType) -> None:
    linear = torch.nn.Linear(30, 50)

    @torch.inference_mode()
    def call() -> None:
        linear(torch.zeros(7, 30))

    assert gpu_speed.count_flops(call) == 2 * 7 * 30 * 50


def test_work_grows_with_dreams_and_steps(gpu_speed: ModuleType) -> None:
    pipe = tiny_pipeline()
    scene = gpu_speed.Scene.make(pipe, seed=0)

    def work(batch: int, steps: int) -> int:
        pipe.config = replace(pipe.config, view_steps=steps)
        state, action = scene.begin(pipe, batch), scene.action(0, batch)
        return gpu_speed.count_flops(lambda: gpu_speed.step_once(pipe, state, action))

    one, two, four = (work(1, steps) for steps in (1, 2, 4))
    assert two > one and four - two == 2 * (two - one)
    assert work(3, 1) == pytest.approx(3 * one, rel=0.01)


def test_a_denoising_step_is_what_the_engine_calls(gpu_speed: ModuleType) -> None:
    pipe = tiny_pipeline()
    scene = gpu_speed.Scene.make(pipe, seed=0)
    state = gpu_speed.full_window(pipe, scene, batch=2)
    assert state.cache.filled.tolist() == [state.cache.slots] * 2
    call = gpu_speed.denoising_step(pipe, state)
    assert call().dtype == torch.bfloat16 and call().shape[0] == 2
    assert gpu_speed.count_flops(call) > 0


def test_sizes(gpu_speed: ModuleType) -> None:
    with torch.device("meta"):
        small = gpu_speed.EgoTwinTransformer3DModel(**gpu_speed.models_of("small")["transformer"])
    assert sum(p.numel() for p in small.parameters()) == pytest.approx(300e6, rel=0.05)
    with pytest.raises(UserError, match="unknown size 'huge'"):
        gpu_speed.models_of("huge")


def test_the_cards_peak_is_known_or_asked_for(gpu_speed: ModuleType) -> None:
    assert gpu_speed.peak_of("NVIDIA H100 PCIe", 0.0) < gpu_speed.peak_of("NVIDIA H100 80GB HBM3", 0.0)
    assert gpu_speed.peak_of("Some Card", 50.0) == 50.0
    with pytest.raises(UserError, match="--peak"):
        gpu_speed.peak_of("Some Card", 0.0)
