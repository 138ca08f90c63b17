"""The three-branch transformer: equal to CogVideoX without motion, causal where it says so, and whole when loaded."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import nn

from egotwin_sim.errors import UserError
from egotwin_sim.models import EgoTwinTransformer3DModel
from egotwin_sim.models.separate_text import with_own_text

TINY = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 5,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": 12,
    "num_layers": 4,
    "sample_width": 8,
    "sample_height": 4,
    "sample_frames": 9,
    "max_text_seq_length": 6,
}
MOTION = {"motion_channels": 3, "motion_dim": 8}


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with random weights everywhere, so that no gate is shut."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def tiny(rotary: bool = True, **options) -> EgoTwinTransformer3DModel:
    return randomised(EgoTwinTransformer3DModel(**TINY, **MOTION, use_rotary_positional_embeddings=rotary, **options))


def inputs(batch: int = 2, latents: int = 3, seed: int = 1, per_chunk: bool = True) -> dict[str, torch.Tensor]:
    """Random inputs; a timestep for each chunk or for each clip."""
    generator = torch.Generator().manual_seed(seed)
    tokens = 2 * latents - 1

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    def times(count):
        shape = (batch, count) if per_chunk else (batch,)
        return torch.randint(0, 1000, shape, generator=generator)

    return {
        "video": normal(batch, latents, 5, 4, 8),
        "text": normal(batch, 6, 12),
        "video_timestep": times(latents),
        "motion": normal(batch, tokens, 3),
        "motion_timestep": times(tokens),
    }


def motion_alone(model: EgoTwinTransformer3DModel) -> torch.Tensor:
    """What text and motion give without a video."""
    data = inputs()
    return model(None, data["text"], None, data["motion"], data["motion_timestep"]).motion


def cogvideox(**options) -> CogVideoXTransformer3DModel:
    return randomised(CogVideoXTransformer3DModel(**(TINY | options)))


class TestCogVideoX:
    @pytest.mark.parametrize(
        ("rotary", "learned", "size"),
        [
            (True, False, (3, 4, 8)),
            (True, False, (3, 8, 6)),
            (False, False, (3, 4, 8)),
            (False, False, (2, 8, 6)),
            (True, True, (3, 4, 8)),
            (True, True, (2, 4, 8)),
        ],
    )
    def test_equals_diffusers_without_motion(self, rotary, learned, size):
        theirs = cogvideox(use_rotary_positional_embeddings=rotary, use_learned_positional_embeddings=learned)
        ours = EgoTwinTransformer3DModel.from_cogvideox(theirs, **MOTION)
        frames, height, width = size
        video, text, timestep = torch.randn(2, frames, 5, height, width), torch.randn(2, 6, 12), torch.tensor([7, 903])
        tables = None
        if rotary:
            # What CogVideoXPipeline makes: 4x8 latents fill the grid of 2x4 patches; 8x6 latents are fitted into it.
            crops = ((0, 0), (2, 4)) if (height, width) == (4, 8) else ((0, 1), (2, 3))
            tables = get_3d_rotary_pos_embed(16, crops, (height // 2, width // 2), frames)
        with torch.no_grad():
            expected = theirs(video, text, timestep, image_rotary_emb=tables).sample
            for given in (None, tables):
                result = ours(video, text, timestep, image_rotary_emb=given)
                torch.testing.assert_close(result.video, expected, atol=1e-5, rtol=1e-5)
                assert result.motion is None
            per_chunk = ours(video, text, timestep[:, None].expand(2, frames)).video
        torch.testing.assert_close(per_chunk, expected, atol=1e-5, rtol=1e-5)

    def test_text_takes_the_timestep_of_what_is_denoised(self):
        """CogVideoX's text knows one timestep, and a clean first latent must not change it."""
        model = EgoTwinTransformer3DModel.from_cogvideox(cogvideox(), **MOTION)
        seen = []
        original = model._embed_times
        model._embed_times = lambda *args: seen.append(original(*args)) or seen[-1]
        video, text = torch.randn(1, 3, 5, 4, 8), torch.randn(1, 6, 12)
        for timestep in (torch.tensor([[0, 500, 500]]), torch.tensor([500]), torch.tensor([[0, 0, 0]])):
            with torch.no_grad():
                model(video, text, timestep)
        first_given, none_given, all_given = (times.text for times in seen)
        torch.testing.assert_close(first_given, none_given)
        assert not torch.allclose(all_given, none_given)

    @pytest.mark.parametrize("inside", ["", "transformer"])
    def test_loads_a_folder_or_the_folder_of_its_pipeline(self, tmp_path, inside):
        theirs = cogvideox(in_channels=8, use_rotary_positional_embeddings=True)
        theirs.save_pretrained(tmp_path / inside)
        ours = EgoTwinTransformer3DModel.from_cogvideox(tmp_path, **MOTION, motion_layers=1)
        video, text, timestep = torch.randn(1, 3, 8, 4, 8), torch.randn(1, 6, 12), torch.tensor([500])
        rotary = get_3d_rotary_pos_embed(16, ((0, 0), (2, 4)), (2, 4), 3)
        with torch.no_grad():
            expected = theirs(video, text, timestep, image_rotary_emb=rotary).sample
            torch.testing.assert_close(ours(video, text, timestep).video, expected, atol=1e-5, rtol=1e-5)
        assert ours.config.in_channels == 8
        assert len(ours.motion_blocks) == 1

    def test_takes_the_asked_dtype(self):
        ours = EgoTwinTransformer3DModel.from_cogvideox(cogvideox(), torch_dtype=torch.bfloat16)
        assert {parameter.dtype for parameter in ours.parameters()} == {torch.bfloat16}

    def test_missing_weights_are_refused(self, tmp_path):
        from safetensors.torch import load_file, save_file

        cogvideox().save_pretrained(tmp_path)
        file = tmp_path / "diffusion_pytorch_model.safetensors"
        weights = load_file(file)
        del weights["transformer_blocks.1.attn1.to_k.weight"]
        save_file(weights, file, metadata={"format": "pt"})
        with pytest.raises(UserError, match="to_k"):
            EgoTwinTransformer3DModel.from_cogvideox(tmp_path)

    def test_what_is_no_cogvideox_is_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"config\.json"):
            EgoTwinTransformer3DModel.from_cogvideox(tmp_path)
        tiny().save_pretrained(tmp_path)
        with pytest.raises(UserError, match="expected a CogVideoXTransformer3DModel"):
            EgoTwinTransformer3DModel.from_cogvideox(tmp_path)
        with pytest.raises(UserError, match="Linear"):
            EgoTwinTransformer3DModel.from_cogvideox(nn.Linear(1, 1))
        with pytest.raises(UserError, match=r"1\.5"):
            EgoTwinTransformer3DModel.from_cogvideox(cogvideox(patch_size_t=2))
        with pytest.raises(UserError, match="num_layers"):
            EgoTwinTransformer3DModel.from_cogvideox(cogvideox(), num_layers=2)


class TestGradients:
    @pytest.mark.parametrize("rotary", [True, False])
    @pytest.mark.parametrize("temporal", ["bidirectional", "causal"])
    def test_reach_every_parameter(self, rotary, temporal):
        model = tiny(rotary)
        result = model(**inputs(), temporal=temporal)
        (result.video.square().mean() + result.motion.square().mean()).backward()
        silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert silent == []

    def test_video_loss_reaches_the_motion_branch_and_back(self):
        model = tiny()
        model(**inputs()).video.square().mean().backward()
        assert model.motion_embed.weight.grad.abs().sum() > 0
        model.zero_grad()
        model(**inputs()).motion.square().mean().backward()
        assert model.patch_embed.proj.weight.grad.abs().sum() > 0

    def test_a_new_model_predicts_zero_and_can_learn(self):
        model = EgoTwinTransformer3DModel(**TINY, **MOTION, use_rotary_positional_embeddings=True)
        optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
        data = inputs()
        target = torch.randn(2, 3, 4, 4, 8), torch.randn(2, 5, 3)
        first = None
        for _ in range(40):
            result = model(**data)
            loss = nn.functional.mse_loss(result.video, target[0]) + nn.functional.mse_loss(result.motion, target[1])
            first = loss.item() if first is None else first
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert not model.proj_out.weight.eq(0).all()
        assert loss.item() < 0.8 * first


class TestCausal:
    @pytest.mark.parametrize("interaction", [True, False])
    @pytest.mark.parametrize("rotary", [True, False])
    def test_a_later_chunk_changes_nothing_earlier(self, interaction, rotary):
        model = tiny(rotary)
        latents = 4
        before = inputs(latents=latents)
        other = inputs(latents=latents, seed=2)
        with torch.no_grad():
            expected = model(**before, interaction=interaction, temporal="causal")
            for k in range(latents - 1):
                tokens = 2 * k + 1
                mixed = {"text": before["text"]}
                for name, kept in (
                    ("video", k + 1),
                    ("video_timestep", k + 1),
                    ("motion", tokens),
                    ("motion_timestep", tokens),
                ):
                    mixed[name] = torch.cat([before[name][:, :kept], other[name][:, kept:]], dim=1)
                result = model(**mixed, interaction=interaction, temporal="causal")
                assert torch.equal(result.video[:, : k + 1], expected.video[:, : k + 1])
                assert torch.equal(result.motion[:, :tokens], expected.motion[:, :tokens])
                assert not torch.equal(result.video[:, k + 1], expected.video[:, k + 1])
                assert not torch.equal(result.motion[:, tokens], expected.motion[:, tokens])

    def test_text_sees_no_chunk(self):
        # The text tokens that enter the last layer are the same for two clips that share nothing but their text.
        model = tiny()
        one, two = inputs(), inputs(seed=2)
        two["text"] = one["text"]
        seen = []
        hook = model.transformer_blocks[-1].norm1.register_forward_pre_hook(
            lambda module, arguments: seen.append(arguments[0]) if arguments[0].shape[1] == 6 else None
        )
        with torch.no_grad():
            model(**one, temporal="causal")
            model(**two, temporal="causal")
        hook.remove()
        assert torch.equal(seen[0], seen[1])

    def test_bidirectional_is_not_causal(self):
        model = tiny()
        one, two = inputs(), inputs()
        two["video"] = two["video"].clone()
        two["video"][:, -1] += 1
        with torch.no_grad():
            assert not torch.equal(model(**one).video[:, 0], model(**two).video[:, 0])


class TestInteraction:
    """With one layer, what a token's output depends on is what the mask lets it see."""

    @pytest.fixture
    def model(self):
        options = TINY | {"num_layers": 1}
        return randomised(
            EgoTwinTransformer3DModel(**options, **MOTION, motion_layers=1, use_rotary_positional_embeddings=True)
        )

    @pytest.mark.parametrize("temporal", ["bidirectional", "causal"])
    def test_motion_token_reaches_only_its_latent(self, model, temporal):
        before = inputs()
        with torch.no_grad():
            expected = model(**before, temporal=temporal).video
            for token, latent in enumerate([0, 1, 1, 2, 2]):
                changed = before | {"motion": before["motion"].clone()}
                changed["motion"][:, token] += 1
                result = model(**changed, temporal=temporal).video
                touched = [not torch.equal(result[:, i], expected[:, i]) for i in range(3)]
                assert touched == [i == latent for i in range(3)]

    def test_latent_reaches_only_the_motion_around_it(self, model):
        before = inputs()
        with torch.no_grad():
            expected = model(**before).motion
            for latent, tokens in ((0, {0, 1, 2}), (1, {1, 2, 3, 4}), (2, {3, 4})):
                changed = before | {"video": before["video"].clone()}
                changed["video"][:, latent] += 1
                result = model(**changed).motion
                assert {j for j in range(5) if not torch.equal(result[:, j], expected[:, j])} == tokens

    def test_without_interaction_motion_reaches_all_latents(self, model):
        before = inputs()
        changed = before | {"motion": before["motion"].clone()}
        changed["motion"][:, 4] += 1
        with torch.no_grad():
            expected = model(**before, interaction=False).video
            result = model(**changed, interaction=False).video
        assert all(not torch.equal(result[:, i], expected[:, i]) for i in range(3))

    def test_motion_leaves_after_its_layers(self):
        model = tiny(motion_layers=2)
        for layer in model.motion_blocks:
            assert layer.attn1.to_q.out_features == 32
        assert (len(model.motion_blocks), len(model.transformer_blocks)) == (2, 4)
        lower = EgoTwinTransformer3DModel(
            **(TINY | {"num_layers": 2}), **MOTION, motion_layers=2, use_rotary_positional_embeddings=True
        )
        weights = lower.state_dict().keys()
        lower.load_state_dict({name: value for name, value in model.state_dict().items() if name in weights})
        with torch.no_grad():
            assert torch.equal(lower.eval()(**inputs()).motion, model(**inputs()).motion)


class TestTimesteps:
    @pytest.mark.parametrize("temporal", ["bidirectional", "causal"])
    def test_equal_timesteps_per_chunk_equal_one_per_clip(self, temporal):
        model, data = tiny(), inputs(per_chunk=False)
        spread = data | {
            "video_timestep": data["video_timestep"][:, None].expand(2, 3),
            "motion_timestep": data["motion_timestep"][:, None].expand(2, 5),
        }
        chunks = spread | {"motion_timestep": data["motion_timestep"][:, None].expand(2, 3)}
        with torch.no_grad():
            expected = model(**data, temporal=temporal)
            for other in (spread, chunks):
                result = model(**other, temporal=temporal)
                torch.testing.assert_close(result.video, expected.video)
                torch.testing.assert_close(result.motion, expected.motion)

    def test_motion_timestep_per_chunk_is_spread_over_its_tokens(self):
        model, data = tiny(), inputs()
        per_chunk = torch.tensor([[0, 100, 900], [5, 50, 500]])
        per_token = per_chunk[:, [0, 1, 1, 2, 2]]
        with torch.no_grad():
            one, two = (model(**(data | {"motion_timestep": t})) for t in (per_chunk, per_token))
        assert torch.equal(one.video, two.video)
        assert torch.equal(one.motion, two.motion)

    def test_the_modalities_have_their_own(self):
        model, data = tiny(), inputs(per_chunk=False)
        with torch.no_grad():
            results = [
                model(**(data | {"video_timestep": torch.tensor([tv, tv]), "motion_timestep": torch.tensor([tm, tm])}))
                for tv, tm in ((100, 900), (900, 100), (100, 100))
            ]
        for one, two in itertools.combinations(results, 2):
            assert not torch.allclose(one.video, two.video)
            assert not torch.allclose(one.motion, two.motion)

    def test_the_other_modalitys_timestep_counts_for_nothing_at_first(self):
        fresh = EgoTwinTransformer3DModel(**TINY, **MOTION)
        assert fresh.motion_time_to_video.weight.eq(0).all()
        assert fresh.video_time_to_motion.weight.eq(0).all()


class TestWindows:
    def test_window_uses_relative_positions_and_true_chunk_numbers(self):
        model = tiny()
        data = inputs(latents=3)
        with torch.no_grad():
            from_start = model(**data, temporal="causal")
            # Chunks 0, 7, 8: the same positions and motion, but motion {13, 14} does not see the latent before it.
            sink = model(**data, temporal="causal", latent_positions=torch.tensor([0, 7, 8]))
            shifted = model(**data, temporal="causal", latent_positions=[0, 7, 8], rotary_positions=[0.0, 7.0, 8.0])
        assert torch.equal(sink.video[:, 0], from_start.video[:, 0])
        assert not torch.equal(sink.motion[:, 1], from_start.motion[:, 1])
        assert not torch.equal(sink.video[:, 1], shifted.video[:, 1])

    def test_window_does_not_know_where_the_rollout_began(self):
        model = tiny()
        data = inputs(latents=3)
        data["motion"] = torch.randn(2, 6, 3)
        data["motion_timestep"] = torch.tensor([10, 600])
        with torch.no_grad():
            one = model(**data, temporal="causal", latent_positions=[5, 6, 7])
            two = model(**data, temporal="causal", latent_positions=[105, 106, 107])
        assert torch.equal(one.video, two.video)
        assert torch.equal(one.motion, two.motion)


class TestCache:
    """Chunks that do not change are seen once; what comes out for the others is the same."""

    @staticmethod
    def part(data: dict[str, torch.Tensor], latents: slice, tokens: slice) -> dict[str, torch.Tensor]:
        """Some latents and motion tokens of the inputs."""
        pieces = {name: data[name][:, latents] for name in ("video", "video_timestep")}
        return pieces | {name: data[name][:, tokens] for name in ("motion", "motion_timestep")}

    @pytest.mark.parametrize("rotary", [True, False])
    @pytest.mark.parametrize("masked", [True, False])
    @pytest.mark.parametrize(("window", "batch"), [([0, 1, 2, 3], 2), ([0, 7, 8, 9], 1)])
    def test_cached_equals_uncached(self, rotary, masked, window, batch):
        model, data = tiny(rotary), inputs(batch, latents=4)
        text_mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])[:batch] if masked else None
        with torch.no_grad():
            whole = model(**data, text_mask=text_mask, latent_positions=window, temporal="causal")
            cache, video, motion = None, [], []
            for latents, tokens in ((slice(0, 2), slice(0, 3)), (slice(2, 3), slice(3, 5)), (slice(3, 4), slice(5, 7))):
                said = {"text": data["text"], "text_mask": text_mask} if cache is None else {"text": None}
                result = model(
                    **self.part(data, latents, tokens),
                    **said,
                    latent_positions=window[latents],
                    temporal="causal",
                    cache=cache,
                    return_cache=True,
                )
                cache = result.cache
                video.append(result.video)
                motion.append(result.motion)
        assert cache.positions == tuple(window)
        torch.testing.assert_close(torch.cat(video, dim=1), whole.video, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(torch.cat(motion, dim=1), whole.motion, atol=1e-5, rtol=1e-4)

    def test_video_alone(self):
        model, data = tiny(), inputs()
        video, times = data["video"], data["video_timestep"]
        with torch.no_grad():
            whole = model(video, data["text"], times, temporal="causal").video
            cache = model(video[:, :2], data["text"], times[:, :2], temporal="causal", return_cache=True).cache
            last = model(video[:, 2:], None, times[:, 2:], temporal="causal", cache=cache).video
        torch.testing.assert_close(last, whole[:, 2:], atol=1e-5, rtol=1e-4)

    def test_chunks_and_rows_can_be_chosen(self):
        # With one layer a chunk's keys depend on nothing else: a cache without chunk 1 equals a window without it.
        options = TINY | {"num_layers": 1}
        model = EgoTwinTransformer3DModel(**options, **MOTION, motion_layers=1, use_rotary_positional_embeddings=True)
        randomised(model)
        data = inputs(latents=4)
        kept, tokens = [0, 2], [0, 3, 4]
        new = self.part(data, slice(3, 4), slice(5, 7))
        with torch.no_grad():
            known = self.part(data, slice(0, 3), slice(0, 5))
            cache = model(**known, text=data["text"], temporal="causal", return_cache=True).cache.keep(kept)
            fork = cache.rows(torch.tensor([1, 1]))
            result = model(**new, text=None, cache=cache, latent_positions=[3], temporal="causal")
            forked = model(**new, text=None, cache=fork, latent_positions=[3], temporal="causal")
            window = self.part(data, [*kept, 3], [*tokens, 5, 6])
            expected = model(**window, text=data["text"], latent_positions=[0, 2, 3], temporal="causal")
        torch.testing.assert_close(result.video, expected.video[:, 2:], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(result.motion, expected.motion[:, 3:], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(forked.video[1], result.video[1], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(forked.video[0], result.video[0])

    def test_calls_that_do_not_go_with_a_cache_are_refused(self):
        model, data = tiny(), inputs()
        with torch.no_grad():
            cache = model(**data, temporal="causal", return_cache=True).cache
            new = {"video": torch.zeros(2, 1, 5, 4, 8), "video_timestep": torch.zeros(2), "cache": cache}
            motion = {"motion": torch.zeros(2, 2, 3), "motion_timestep": torch.zeros(2)}
            for options, says in (
                ({"text": data["text"], "temporal": "causal", **motion}, "no text"),
                ({"text": None, **motion}, "causal"),
                ({"text": None, "temporal": "causal"}, "cache has motion"),
                ({"text": None, "temporal": "causal", **motion, "latent_positions": [2]}, "rising"),
                ({"text": None, "temporal": "causal", **motion, "rotary_positions": [0]}, "times for 4"),
            ):
                with pytest.raises(UserError, match=says):
                    model(**new, **options)


class TestModalities:
    def test_motion_only_leaves_the_motion_as_it_is(self):
        model, data = tiny(), inputs()
        with torch.no_grad():
            whole, half = model(**data), model(**data, motion_only=True)
        assert half.video is None
        assert torch.equal(half.motion, whole.motion)
        with pytest.raises(UserError, match="half-way"):
            model(**data, motion_only=True, return_cache=True, temporal="causal")

    def test_motion_without_video(self):
        model, data = tiny(), inputs()
        with torch.no_grad():
            result = model(None, data["text"], None, data["motion"], data["motion_timestep"])
        assert result.video is None
        assert result.motion.shape == (2, 5, 3)
        assert result.motion.isfinite().all()

    def test_padded_text_changes_nothing_but_itself(self):
        model, data = tiny(), inputs()
        mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
        other = data | {"text": data["text"].clone()}
        other["text"][1, 3:] += 1
        with torch.no_grad():
            one, two = (model(**d, text_mask=mask) for d in (data, other))
            short = model(**{name: value[1:] for name, value in (data | {"text": data["text"][:, :3]}).items()})
        assert torch.equal(one.video, two.video)
        assert torch.equal(one.motion, two.motion)
        whole = tiny()(**{name: value[:1] for name, value in data.items()})
        torch.testing.assert_close(one.video[:1], whole.video)
        assert short.motion.shape == (1, 5, 3)

    def test_as_tuple(self):
        result = tiny()(**inputs(), return_dict=False)
        assert [part.shape for part in result] == [(2, 3, 4, 4, 8), (2, 5, 3)]

    def test_tables_of_an_inference_serve_training(self):
        model = tiny(rotary=False)
        with torch.inference_mode():
            model(**inputs(), temporal="causal")
        model(**inputs(), temporal="causal").video.mean().backward()

    def test_bf16_autocast_is_close_to_float32(self):
        model = tiny()
        with torch.no_grad():
            exact = model(**inputs(), temporal="causal").video
            with torch.autocast("cpu", torch.bfloat16):
                rough = model(**inputs(), temporal="causal").video
        assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()


class TestSwitches:
    """The paper's ablations that are settings of the network."""

    @pytest.mark.parametrize("temporal", ["bidirectional", "causal"])
    def test_own_text_weights_start_as_a_copy_of_the_shared_ones(self, temporal):
        theirs = cogvideox(use_rotary_positional_embeddings=True)
        shared = EgoTwinTransformer3DModel.from_cogvideox(theirs, **MOTION)
        apart = EgoTwinTransformer3DModel.from_cogvideox(theirs, **MOTION, separate_text=True)
        randomised(shared)
        apart.load_state_dict(with_own_text(shared.state_dict()))
        with torch.no_grad():
            expected, result = (model(**inputs(), temporal=temporal) for model in (shared, apart))
            alone = [motion_alone(model) for model in (shared, apart)]
        torch.testing.assert_close(result.video, expected.video, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(result.motion, expected.motion, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone[1], alone[0], atol=1e-5, rtol=1e-4)

    def test_a_cogvideox_loads_into_both(self):
        theirs = cogvideox(use_rotary_positional_embeddings=True)
        data = inputs(per_chunk=False)
        with torch.no_grad():
            both = [
                EgoTwinTransformer3DModel.from_cogvideox(theirs, **MOTION, separate_text=separate)(
                    data["video"], data["text"], data["video_timestep"]
                ).video
                for separate in (False, True)
            ]
        torch.testing.assert_close(both[1], both[0], atol=1e-5, rtol=1e-4)

    def test_own_text_weights_are_text_only(self):
        model = tiny(separate_text=True)
        with torch.no_grad():
            before = motion_alone(model)
            for parameter in model.transformer_blocks.parameters():
                parameter.add_(1.0)
            same = motion_alone(model)
            for parameter in model.text_blocks.parameters():
                parameter.add_(1.0)
            other = motion_alone(model)
        assert torch.equal(same, before)
        assert not torch.equal(other, before)

    def test_gradients_reach_all_but_what_follows_the_last_layers_text(self):
        model = tiny(separate_text=True)
        result = model(**inputs())
        (result.video.square().mean() + result.motion.square().mean()).backward()
        silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert silent and all(name.startswith("text_blocks.3.") for name in silent)
        assert not any("to_k" in name or "to_v" in name for name in silent)

    def test_own_text_weights_and_a_cache(self):
        model, data = tiny(separate_text=True), inputs()
        new = TestCache.part(data, slice(2, 3), slice(3, 5))
        with torch.no_grad():
            whole = model(**data, temporal="causal")
            known = TestCache.part(data, slice(0, 2), slice(0, 3))
            cache = model(**known, text=data["text"], temporal="causal", return_cache=True).cache
            last = model(**new, text=None, temporal="causal", cache=cache)
        torch.testing.assert_close(last.video, whole.video[:, 2:], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(last.motion, whole.motion[:, 3:], atol=1e-5, rtol=1e-4)

    def test_the_config_says_whether_the_interaction_mask_holds(self, tmp_path):
        tiny(interaction=False, shared_timestep=True).save_pretrained(tmp_path)
        loaded, masked = EgoTwinTransformer3DModel.from_pretrained(tmp_path), tiny()
        assert loaded.config.shared_timestep and not masked.config.shared_timestep
        with torch.no_grad():
            free = loaded(**inputs()).video
            assert torch.equal(free, masked(**inputs(), interaction=False).video)
            assert torch.equal(loaded(**inputs(), interaction=True).video, masked(**inputs()).video)
            assert not torch.equal(free, masked(**inputs()).video)

    def test_motion_in_all_layers(self):
        model = tiny(motion_layers=4)
        assert len(model.motion_blocks) == 4
        result = model(**inputs())
        assert result.video.shape == (2, 3, 4, 4, 8) and result.motion.isfinite().all()


class TestSaving:
    def test_saved_and_loaded_is_the_same(self, tmp_path):
        model = tiny()
        model.save_pretrained(tmp_path)
        loaded = EgoTwinTransformer3DModel.from_pretrained(tmp_path)
        assert loaded.config.motion_dim == 8
        with torch.no_grad():
            assert torch.equal(loaded(**inputs()).video, model(**inputs()).video)
            assert torch.equal(loaded(**inputs()).motion, model(**inputs()).motion)

    def test_damaged_checkpoints_are_refused_in_one_line(self, tmp_path):
        from safetensors.torch import load_file, save_file

        model = tiny()
        file = tmp_path / "diffusion_pytorch_model.safetensors"

        def refused(says: str) -> None:
            with pytest.raises(UserError, match=says) as caught:
                EgoTwinTransformer3DModel.from_pretrained(tmp_path)
            assert "\n" not in str(caught.value)

        refused(r"config\.json")
        model.save_pretrained(tmp_path)
        weights = load_file(file)
        save_file({n: w for n, w in weights.items() if n != "motion_embed.weight"}, file, metadata={"format": "pt"})
        refused("lacks weights.*motion_embed.weight")
        save_file(weights | {"extra": torch.zeros(1)}, file, metadata={"format": "pt"})
        refused("unknown weights.*extra")
        save_file(weights | {"motion_embed.weight": torch.zeros(8, 4)}, file, metadata={"format": "pt"})
        refused("do not load")
        save_file(weights, file, metadata={"format": "pt"})
        file.write_bytes(file.read_bytes()[:-100])
        refused("do not load")
        file.unlink()
        refused("do not load")
        (tmp_path / "config.json").write_text(json.dumps({"_class_name": "MotionVAE"}))
        refused("holds a MotionVAE")
        (tmp_path / "config.json").write_text("{")
        refused("cannot be read")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"video": torch.zeros(2, 3, 4, 4, 8)}, "video has shape"),
        ({"video": torch.zeros(2, 3, 5, 5, 8)}, "multiples of 2"),
        ({"video": torch.zeros(2, 2, 5, 4, 8)}, "expected 3"),
        ({"video": None, "motion": None}, "neither"),
        ({"text": torch.zeros(2, 7, 12)}, "at most 6"),
        ({"text": torch.zeros(2, 6, 11)}, "text is of shape"),
        ({"motion": torch.zeros(2, 4, 3)}, "4 motion tokens"),
        ({"motion": torch.zeros(2, 5, 4)}, "motion has shape"),
        ({"video_timestep": torch.zeros(2, 4)}, "video_timestep has shape"),
        ({"video_timestep": None}, "without video_timestep"),
        ({"motion_timestep": torch.zeros(2, 4)}, "motion_timestep has shape"),
        ({"motion_timestep": None}, "without motion_timestep"),
        ({"text_mask": torch.ones(2, 5, dtype=torch.bool)}, "text_mask has shape"),
        ({"text": None}, "text is missing"),
        ({"text": torch.zeros(1, 6, 12)}, "batch sizes"),
        ({"latent_positions": [0, 1]}, "2 latent positions"),
        ({"latent_positions": [0, 2, 1]}, "rising"),
        ({"temporal": "forward"}, "temporal"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change, says):
    with pytest.raises(UserError, match=says):
        tiny()(**(inputs() | change))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"patch_size_t": 2}, "patch_size_t"),
        ({"motion_layers": 5}, "motion_layers"),
        ({"attention_head_dim": 12, "use_rotary_positional_embeddings": True}, "multiple of 8"),
    ],
)
def test_configs_that_cannot_be_built_are_named(config, says):
    with pytest.raises(UserError, match=says):
        EgoTwinTransformer3DModel(**(TINY | config))
