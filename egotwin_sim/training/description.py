"""What a model's size costs, in numbers: what `egotwin model info` prints."""

from __future__ import annotations

from typing import Any

import torch

from egotwin_sim.models.footprint import (
    PASSES,
    ClipSize,
    Memory,
    branch_parameters,
    parameters,
    pass_cost,
    sampling_needs,
    step_cost,
    training_memory,
)
from egotwin_sim.training.networks import Networks

NOTES = (
    "GB are 1024**3 bytes. Training holds weights, gradients, averages and AdamW's moments in float32 and computes in",
    "bf16. Operations, activations and parameters are counted; the rest is an estimate that no GPU has confirmed.",
)


def describe(networks: Networks, clip: ClipSize, gpus: int) -> dict[str, Any]:
    """Parameters, operations and memory of a model, as plain data.

    Args:
        networks: on the meta device.
        clip: what a pass holds.
        gpus: over which a training is sharded.
    """
    transformer = networks.transformer
    named = {name: network for name, network in networks.named().items() if name != "transformer"}
    counts = {f"transformer: {name}": count for name, count in branch_parameters(transformer).items()}
    counts["transformer"] = parameters(transformer)
    counts |= {name: parameters(network) for name, network in named.items()}

    sampling = sampling_needs(transformer, networks.video_vae, networks.text_encoder, clip)
    one_pass = sampling.costs["transformer"].flops
    steps = {again: step_cost(transformer, clip, bf16=True, checkpointing=again) for again in (False, True)}
    short_pass = pass_cost(transformer, clip, torch.bfloat16, motion_only=True).flops
    operations = {"a pass of the transformer": one_pass, "a pass for the motion alone": short_pass}
    operations |= {
        f"a denoising step, {mode} ({whole + short} passes)": whole * one_pass + short * short_pass
        for mode, (whole, short) in PASSES.items()
    }
    operations |= {
        "a training step": steps[False].flops,
        "a training step, layers computed again": steps[True].flops,
    }
    for name, what in (("video_vae", "decoding the video"), ("text_encoder", "encoding the text")):
        if name in sampling.costs:
            operations[what] = sampling.costs[name].flops

    training = {}
    for count in sorted({1, gpus}):
        for again, cost in steps.items():
            memory = training_memory(transformer, cost.peak_bytes, gpus=count, sharded=count > 1, bf16=True)
            where = "1 GPU" if count == 1 else f"{count} GPUs, sharded"
            training[f"{where}, layers {'computed again' if again else 'kept'}"] = _told(memory)
    config = transformer.config
    return {
        "parameters": counts,
        "clip": {
            "batch": clip.batch,
            "frames": clip.frames,
            "height": 8 * config.sample_height,
            "width": 8 * config.sample_width,
        },
        "operations": operations,
        "sampling": {
            "all networks on the GPU": _told(sampling.together),
            "the network at work alone (offloading)": _told(sampling.offloaded),
        },
        "training": training,
        "notes": list(NOTES),
    }


def _told(memory: Memory) -> dict[str, int]:
    return {**vars(memory), "total": memory.total}
