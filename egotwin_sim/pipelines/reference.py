"""The slow reference of a stream: nothing is cached, every chunk is computed again at every step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.models.transformer_cache import LayerCache, TransformerCache, longer
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.pipelines.stream import Stream, StreamPipeline, StreamStep


class ReferenceStream(Stream):
    """A dream that keeps the clean inputs of all its chunks and no keys or values.

    Each step computes the keys and values of every chunk anew, from chunk 0 on, each chunk seeing the text, the sink
    and the window before it. What it gives is what `Stream` must give; its cost grows with every step.

    Args:
        pipeline: the model.
        first_frame: as for ``StreamPipeline.start``, and so are the others.
        initial_pose: likewise.
        text: likewise.
        seed: likewise.
    """

    def __init__(
        self, pipeline: StreamPipeline, first_frame: np.ndarray, initial_pose: np.ndarray, text: str, *, seed: int = 0
    ) -> None:
        super().__init__(pipeline, pipeline.start(first_frame, initial_pose, text, seed=seed).state)
        with torch.inference_mode():
            body = BodyState.from_pose(initial_pose, pipeline.skeleton, pipeline.config.motion_fps)
            opening = pipeline._open(pipeline._to_network(first_frame[None])[:, :, 0], [body])
            embedded = pipeline.text_encoder.encode([text])
        self._text = embedded.tokens.to(pipeline.device).float(), embedded.mask.to(pipeline.device)
        self._inputs: list[Tensor] = [opening.inputs]
        self._tokens: list[Tensor] = [opening.token]

    @property
    def newest_inputs(self) -> Tensor:
        """(1, 1, C + C + E, h, w), the clean input of the newest chunk."""
        return self._inputs[-1]

    def step(self, motion_tokens: np.ndarray | None = None) -> StreamStep:
        """As ``Stream.step``."""
        tokens = None if motion_tokens is None else np.asarray(motion_tokens)[None]
        chunk = self.pipeline.generate(self.state, tokens, cache=self._recomputed())
        self._inputs.append(chunk.inputs)
        self._tokens.append(chunk.motion_tokens)
        self.state = self.pipeline.finalize(self.state, chunk)
        return StreamStep.of(chunk, 0)

    @torch.inference_mode()
    def _recomputed(self) -> TransformerCache:
        """Keys and values of the sink and the window, from nothing but the chunks themselves."""
        pipeline, config = self.pipeline, self.pipeline.config
        every: TransformerCache | None = None
        for number, (inputs, tokens) in enumerate(zip(self._inputs, self._tokens, strict=True)):
            known = None if every is None else visible(every, config.sink, config.window)
            text, mask = self._text if known is None else (None, None)
            with pipeline._autocast():
                seen = pipeline.transformer(
                    inputs, text, torch.zeros(1, 1, device=pipeline.device), tokens,
                    torch.zeros(1, tokens.shape[1], device=pipeline.device), text_mask=mask,
                    latent_positions=(number,), temporal="causal", cache=known, return_cache=True,
                ).cache  # fmt: skip
            every = seen if every is None else appended(every, seen, tokens.shape[1])
        assert every is not None
        return visible(every, config.sink, config.window)


def visible(cache: TransformerCache, sink: int, window: int) -> TransformerCache:
    """The first `sink` and the newest `window` chunks of a cache."""
    count = len(cache.positions)
    return cache.keep([*range(min(sink, count)), *range(max(sink, count - window), count)])


def appended(cache: TransformerCache, seen: TransformerCache, num_motion: int) -> TransformerCache:
    """A cache with the newest chunk of another one added, which has `num_motion` tokens."""
    per_latent = cache.layers[0].video[0].shape[1] // len(cache.positions)

    layers = []
    for old, every in zip(cache.layers, seen.layers, strict=True):
        new = every.newest(num_motion, per_latent)
        motion = None if new.motion is None else longer(old.motion, new.motion)
        layers.append(LayerCache(old.text, motion, longer(old.video, new.video)))
    return replace(cache, positions=(*cache.positions, seen.positions[-1]), layers=tuple(layers))
