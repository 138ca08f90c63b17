"""What a model needs, found without its weights: equal to counts of the real thing on sizes that fit here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from egotwin_sim.errors import UserError
from egotwin_sim.models import EgoTwinTransformer3DModel
from egotwin_sim.models.footprint import (
    RESERVE,
    ClipSize,
    Memory,
    branch_parameters,
    free_memory,
    parameters,
    pass_cost,
    require_memory,
    sampling_memory,
    sampling_needs,
    step_cost,
    training_memory,
    transformer_inputs,
)
from egotwin_sim.models.measure import LOWERED, RAISED, WIDENED, measure
from egotwin_sim.training.config import load_config
from egotwin_sim.training.networks import networks_of_config

SMALL = {
    "num_attention_heads": 4,
    "attention_head_dim": 16,
    "in_channels": 8,
    "out_channels": 8,
    "time_embed_dim": 32,
    "text_embed_dim": 48,
    "num_layers": 4,
    "sample_width": 8,
    "sample_height": 8,
    "sample_frames": 41,
    "max_text_seq_length": 16,
    "use_rotary_positional_embeddings": True,
    "motion_channels": 6,
    "motion_dim": 32,
}
FORMS = {
    "text to video": {},
    "image to video": {"in_channels": 16, "use_learned_positional_embeddings": True},
    "sine positions": {"use_rotary_positional_embeddings": False},
    "motion in all layers": {"motion_layers": 4},
    "text of its own": {"separate_text": True},
}


def small(**changes: Any) -> EgoTwinTransformer3DModel:
    torch.manual_seed(0)
    return EgoTwinTransformer3DModel(**(SMALL | changes))


def inputs(model: EgoTwinTransformer3DModel, clip: ClipSize) -> dict[str, Any]:
    """Numbers in the place of the meta device's shapes."""
    given = transformer_inputs(model, clip)
    return {name: None if value is None else torch.rand(value.shape) for name, value in given.items()}


def loss(model: EgoTwinTransformer3DModel, given: dict[str, Any]) -> torch.Tensor:
    output = model(**given)
    return sum(part.square().mean() for part in (output.video, output.motion) if part is not None)


def counted(call: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


class TestParameters:
    @pytest.mark.parametrize("form", FORMS)
    def test_branches_add_up_to_the_real_count(self, form: str) -> None:
        model = small(**FORMS[form])
        counts = branch_parameters(model)
        assert sum(counts.values()) == sum(weight.numel() for weight in model.state_dict().values()) - (
            model.patch_embed.pos_embedding.numel() if form == "image to video" else 0
        )
        assert counts["motion"] == sum(weight.numel() for weight in model.motion_parameters())

    def test_the_published_sizes(self) -> None:
        base, small_size = (networks_of_config(load_config(name)) for name in ("base", "small"))
        counts = branch_parameters(base.transformer)
        told = {name: base.transformer.config[name] for name in ("num_attention_heads", "num_layers", "time_embed_dim")}
        with torch.device("meta"):
            theirs = CogVideoXTransformer3DModel(**told, use_rotary_positional_embeddings=True)
        heard = base.transformer.video_time_to_motion  # what the motion hears of the video's timestep
        assert sum(counts.values()) - counts["motion"] == parameters(theirs) + parameters(heard)
        assert parameters(theirs) == pytest.approx(5.57e9, rel=0.001)
        assert counts["motion"] == pytest.approx(300e6, rel=0.2)
        assert parameters(small_size.transformer) == pytest.approx(300e6, rel=0.05)
        assert parameters(base.text_encoder) == pytest.approx(4.76e9, rel=0.01)
        assert parameters(base.video_vae) == pytest.approx(215.6e6, rel=0.01)
        assert {weight.device.type for network in base.named().values() for weight in network.parameters()} == {"meta"}


class TestOperations:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("clip", [ClipSize(2, 9), ClipSize(1, 17, video=False)], ids=["joint", "motion alone"])
    def test_a_pass_is_counted_as_torch_counts_a_real_one(self, form: str, clip: ClipSize) -> None:
        model = small(**FORMS[form])
        with torch.no_grad():
            real = counted(lambda: model(**inputs(model, clip)))
        assert pass_cost(model, clip, torch.float32).flops == real
        assert pass_cost(model, clip, torch.bfloat16).flops == real

    def test_a_training_step_as_torch_counts_a_real_one(self) -> None:
        model, clip = small(), ClipSize(2, 9)
        real = counted(lambda: loss(model, inputs(model, clip)).backward())
        # A GPU's fused attention computes its weights again in the backward pass, a processor's here does not.
        tokens, above = 16 + 3 * 16 + 5, 16 + 3 * 16
        again = 2 * clip.batch * 64 * (2 * tokens**2 + 2 * above**2)
        assert step_cost(model, clip, bf16=False, checkpointing=False).flops == real + again

    def test_layers_that_are_computed_again_cost_their_pass_once_more(self) -> None:
        model, clip = small(), ClipSize(1, 9)
        kept, again = (step_cost(model, clip, bf16=True, checkpointing=on).flops for on in (False, True))
        one_pass = pass_cost(model, clip).flops
        assert 0.8 * one_pass < again - kept <= one_pass

    def test_frozen_weights_save_their_gradients(self) -> None:
        model, clip = small(), ClipSize(1, 9)
        whole = step_cost(model, clip, bf16=False, checkpointing=False).flops
        model.requires_grad_(False)
        for weight in model.motion_parameters():
            weight.requires_grad_(True)
        real = counted(lambda: loss(model, inputs(model, clip)).backward())
        frozen = step_cost(model, clip, bf16=False, checkpointing=False).flops
        assert frozen < whole
        assert frozen == pytest.approx(real, rel=0.1)


class TestActivations:
    """Against the peak that torch's profiler saw of the processor's own allocator, on the path that GPUs take too."""

    WIDE = SMALL | {"sample_width": 28, "sample_height": 28, "max_text_seq_length": 64}
    TOKENS = 64 + 21 + 11 * 14 * 14  # above `attention.BLOCKED_UP_TO`: a processor takes a fused kernel as well

    def peak(self, run: Any, tmp_path: Path) -> int:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
            run()
        told.export_chrome_trace(str(tmp_path / "trace.json"))
        events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        memory = sorted(
            (e["ts"], e["args"]["Total Allocated"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]"
        )
        return max(total for _, total, _ in memory) - (memory[0][1] - memory[0][2])

    @pytest.mark.parametrize("kind", ["kept", "computed again", "no gradients"])
    def test_the_peak_is_the_allocators(self, kind: str, tmp_path: Path) -> None:
        model, clip = small(**self.WIDE), ClipSize()
        given = inputs(model, clip)
        with torch.no_grad():
            model(**given)  # makes the mask, whose making is not counted
        mask = 4 * self.TOKENS**2
        if kind == "no gradients":
            with torch.no_grad():
                real = self.peak(lambda: model(**given), tmp_path) + mask
            found = pass_cost(model, clip, torch.float32).peak_bytes
        else:
            for weight in model.parameters():
                weight.register_post_accumulate_grad_hook(lambda weight: setattr(weight, "grad", None))
            if kind == "computed again":
                model.enable_gradient_checkpointing()
            real = self.peak(lambda: loss(model, given).backward(), tmp_path) + mask
            model.disable_gradient_checkpointing()
            found = step_cost(model, clip, bf16=False, checkpointing=kind == "computed again").peak_bytes
        assert found == pytest.approx(real, rel=0.1)

    def test_they_grow_with_the_batch(self) -> None:
        model = small()
        one, four = (
            step_cost(model, ClipSize(batch, 9), bf16=True, checkpointing=False).peak_bytes for batch in (1, 4)
        )
        assert 3.5 * one < four <= 4 * one


class TestAutocast:
    def test_every_function_that_cudas_autocast_knows_is_handled(self) -> None:
        registered = torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA")
        known = {name.split("::")[1].split(".")[0] for name in registered}
        called: set[str] = set()

        class Recorder(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                called.add(getattr(func, "__name__", ""))
                return func(*args, **(kwargs or {}))

        for form in FORMS.values():
            with torch.device("meta"):
                model = small(**form)
            with Recorder():
                model(**transformer_inputs(model, ClipSize(1, 9)))
        assert {"linear", "scaled_dot_product_attention"} < called
        assert called & known <= {function.__name__ for function in (*LOWERED, *RAISED, *WIDENED)}

    def test_norms_are_kept_in_float32_and_products_in_bf16(self) -> None:
        linear, norm = nn.Linear(8, 8, device="meta"), nn.LayerNorm(8, device="meta")
        made = []

        def call() -> None:
            product = linear(torch.empty(4, 8, device="meta"))
            made.extend((product.dtype, norm(product).dtype, torch.addcmul(product, product, norm(product)).dtype))

        measure(call, autocast=True)
        assert made == [torch.bfloat16, torch.float32, torch.float32]


class TestMemory:
    def test_to_train_alone_and_sharded(self) -> None:
        model = small()
        count = parameters(model)
        alone = training_memory(model, 1000, gpus=1, sharded=False, bf16=True)
        assert (alone.weights, alone.gradients, alone.optimiser, alone.average) == (
            4 * count, 4 * count, 8 * count, 4 * count,
        )  # fmt: skip
        assert alone.gathered == 2 * count
        assert alone.total == 22 * count + 1100 + RESERVE
        shared = training_memory(model, 1000, gpus=4, sharded=True, bf16=True)
        assert (shared.weights, shared.optimiser) == (count, 2 * count)
        assert 0 < shared.gathered < 6 * count
        whole = training_memory(model, 1000, gpus=4, sharded=False, bf16=False)
        assert (whole.weights, whole.gathered) == (4 * count, 4 * count)

    def test_what_is_not_trained_has_neither_gradient_nor_moments(self) -> None:
        model = small().requires_grad_(False)
        for weight in model.motion_parameters():
            weight.requires_grad_(True)
        trained = branch_parameters(model)["motion"]
        memory = training_memory(model, 0, gpus=1, sharded=False, bf16=True, adapters=10)
        assert (memory.gradients, memory.optimiser) == (4 * (trained + 10), 8 * (trained + 10))
        halved = training_memory(model, 0, gpus=1, sharded=False, bf16=True, adapters=10, frozen=2)
        assert memory.weights - halved.weights == 2 * (parameters(model) - trained)
        assert halved.gathered == 2 * (trained + 10)

    def test_the_optimiser_of_a_real_training_is_that_large(self) -> None:
        model = small()
        optimiser = torch.optim.AdamW(model.parameters())
        loss(model, inputs(model, ClipSize(1, 9))).backward()
        optimiser.step()
        memory = training_memory(model, 0, gpus=1, sharded=False, bf16=False)
        moments = [value for state in optimiser.state.values() for value in state.values() if value.ndim]
        assert sum(value.nbytes for value in moments) == memory.optimiser
        assert sum(weight.grad.nbytes for weight in model.parameters()) == memory.gradients

    def test_to_sample_with_all_networks_or_one_at_a_time(self) -> None:
        networks = {"a": nn.Linear(1000, 100), "b": nn.Linear(10, 10)}
        together = sampling_memory(networks, {"a": 10, "b": 1_000_000}, offload=False)
        assert together == Memory(weights=4 * (100_100 + 110), activations=1_100_000)
        offloaded = sampling_memory(networks, {"a": 10, "b": 1_000_000}, offload=True)
        assert offloaded == Memory(weights=440, activations=1_100_000)

    def test_small_samples_on_its_gpu(self) -> None:
        networks = networks_of_config(load_config("small"))
        needs = sampling_needs(networks.transformer, networks.video_vae, networks.text_encoder, ClipSize())
        assert set(needs.costs) == {"transformer", "video_vae", "text_encoder"}
        assert needs.offloaded.total < needs.together.total < 24 * 1024**3

    def test_too_small_a_gpu_is_refused_with_what_would_fit(self) -> None:
        require_memory(10, 10, [])
        with pytest.raises(
            UserError, match=r"needs about 80\.0 GB .* 24\.0 GB are free: take four; or take a larger one"
        ):
            require_memory(80 * 1024**3, 24 * 1024**3, ["take four", "take a larger one"])
        assert free_memory(torch.device("cpu")) is None


@pytest.mark.parametrize(("batch", "frames"), [(0, 41), (1, 40), (1, 1)])
def test_what_is_no_clip(batch: int, frames: int) -> None:
    with pytest.raises(UserError):
        ClipSize(batch, frames)
