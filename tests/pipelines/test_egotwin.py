"""Whole clips in the three modes, in the nano and in the published form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler
from PIL import Image

from egotwin_sim.diffusion import GuidanceScales, sample, trailing_timesteps
from egotwin_sim.diffusion.guidance import Noised, guide_t2vm, guide_tm2v, guide_tv2m
from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.errors import UserError
from egotwin_sim.models.images import image_to_unit
from egotwin_sim.motion import Motion, Skeleton, encode
from egotwin_sim.pipelines import EgoTwinPipeline
from egotwin_sim.pipelines.tokens import motion_tokens
from tests.tiny import HEIGHT, LATENT_CHANNELS, TOKEN_CHANNELS, WIDTH, tiny_pipeline, tiny_published_pipeline


def nano() -> EgoTwinPipeline:
    pipeline = EgoTwinPipeline.of_stream(tiny_pipeline())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def published(**options: Any) -> EgoTwinPipeline:
    pipeline = tiny_published_pipeline(**options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module", params=["nano", "published", "image to video"])
def pipeline(request: pytest.FixtureRequest) -> EgoTwinPipeline:
    return nano() if request.param == "nano" else published(image_to_video=request.param == "image to video")


def frames(pipeline: EgoTwinPipeline, count: int = 9, seed: int = 0) -> np.ndarray:
    shape = (count, pipeline.config.height, pipeline.config.width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def walk(metres: float, count: int = 17) -> Motion:
    """A stiff body that glides ahead, somewhere in the world."""
    skeleton = Skeleton.default()
    quat = np.zeros((count, skeleton.num_joints, 4), np.float32)
    quat[..., 0] = 1
    root = np.zeros((count, 3), np.float32)
    root[:, 0] = np.linspace(0, metres, count)
    root[:, 2] = skeleton.rest_root_height
    return Motion(root, quat, skeleton).transformed(1.0, (2.0, -1.0, 0.0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same_motion(a: Motion, b: Motion) -> bool:
    return np.array_equal(a.root_position, b.root_position) and np.array_equal(a.joint_quat_wxyz, b.joint_quat_wxyz)


class TestModes:
    def test_text_gives_both(self, pipeline):
        video, start = frames(pipeline), walk(0.0, 1)
        out = pipeline("walk to the red box", "t2vm", video[0], start, num_frames=9, generator=seeded())
        assert out.videos[0].shape == video.shape and out.videos[0].dtype == np.uint8
        assert len(out.motions[0]) == 17 and out.modes == ["t2vm"]
        np.testing.assert_array_equal(out.videos[0][0], video[0])
        np.testing.assert_allclose(out.motions[0].T_world_head()[0], start.T_world_head()[0], atol=1e-5)

    def test_motion_gives_video(self, pipeline):
        video, motion = frames(pipeline), walk(0.5)
        out = pipeline("walk", "tm2v", video[0], motion=motion, generator=seeded())
        assert out.motions[0] is motion and out.videos[0].shape == video.shape
        other = pipeline("walk", "tm2v", video[0], motion=walk(-0.5), generator=seeded())
        assert (out.videos[0] != other.videos[0]).any()

    def test_video_gives_motion_in_the_world_of_the_initial_pose(self, pipeline):
        video, start = frames(pipeline), walk(0.5)[:1]
        out = pipeline("walk", "tv2m", initial_pose=start, video=video, generator=seeded())
        np.testing.assert_array_equal(out.videos[0], video)
        np.testing.assert_allclose(out.motions[0].T_world_head()[0], start.T_world_head()[0], atol=1e-5)
        other = pipeline("walk", "tv2m", initial_pose=start, video=video[[0, *range(8, 0, -1)]], generator=seeded())
        assert not same_motion(out.motions[0], other.motions[0])

    def test_a_pose_vector_will_do(self, pipeline):
        pose = encode(walk(0.0, 1))[0]
        out = pipeline("walk", "t2vm", frames(pipeline)[0], pose, num_frames=5, generator=seeded())
        np.testing.assert_allclose(encode(out.motions[0][:1])[0], pose, atol=1e-5)

    def test_a_clip_is_a_function_of_its_arguments(self, pipeline):
        first = frames(pipeline)[0]

        def clip(text: str | None, seed: int) -> np.ndarray:
            torch.manual_seed(seed + 100)  # the global generator must not matter
            out = pipeline(text, "t2vm", first, walk(0.0, 1), num_frames=5, generator=seeded(seed))
            return np.concatenate([out.videos[0].ravel(), out.motions[0].root_position.ravel()])

        reference = clip("walk", 3)
        np.testing.assert_array_equal(reference, clip("walk", 3))
        assert (reference != clip("walk", 4)).any()
        assert (reference != clip("sit down", 3)).any()
        assert (reference != clip(None, 3)).any()

    def test_mixed_modes_and_lengths_equal_each_alone(self, pipeline):
        video, motion, start = frames(pipeline), walk(0.5), walk(0.0, 1)
        calls = [
            ("walk", "t2vm", video[0], start, None, None),
            ("open the door", "tm2v", video[1], None, None, motion),
            (None, "tv2m", None, start, video[:5], None),
            ("walk", "tm2v", video[2], None, None, motion[:9]),
            ("sit down", "t2vm", video[3], start, None, None),
        ]
        columns = [list(column) for column in zip(*calls, strict=True)]
        generators = [seeded(row) for row in range(len(calls))]
        together = pipeline(*columns, num_frames=9, generator=generators)
        assert together.modes == columns[1]
        for row, call in enumerate(calls):
            alone = pipeline(*call, num_frames=9, generator=seeded(row))
            # Matrix products of a processor sum in another order for another number of rows.
            difference = together.videos[row].astype(int) - alone.videos[0]
            assert np.abs(difference).mean() < 0.5
            np.testing.assert_allclose(together.motions[row].root_position, alone.motions[0].root_position, atol=2e-3)


class TestGuidance:
    """The pipeline against the paper's equations, written with the plain sampler."""

    SCALES = GuidanceScales(1.5, 2.0), GuidanceScales(2.5, 0.5)

    @staticmethod
    def model(pipeline: EgoTwinPipeline, latent: torch.Tensor, token: torch.Tensor):
        text = {True: pipeline._text().encode(["walk"]).tokens, False: pipeline._text().encode_null().tokens}

        def call(video: Noised, motion: Noised, with_text: bool, *, motion_only: bool = False):
            output = pipeline.transformer(
                torch.cat([latent, video.tokens], 1), text[with_text],
                torch.cat([torch.zeros(1, 1), video.timestep[:, None].expand(-1, 2)], 1),
                torch.cat([token, motion.tokens], 1),
                torch.cat([torch.zeros(1, 1), motion.timestep[:, None].expand(-1, 4)], 1),
            )  # fmt: skip
            return output.video[:, 1:], output.motion[:, 1:]

        return call

    @pytest.mark.parametrize("mode", ["t2vm", "tm2v", "tv2m"])
    @torch.no_grad()
    def test_equations(self, mode):
        pipeline = published()
        video, motion = frames(pipeline), walk(0.5)
        pictures = image_to_unit(torch.from_numpy(video).permute(3, 0, 1, 2)[None])
        given_latents = pipeline.codec.encode(pictures)
        first = pipeline.codec.encode(pictures[:, :, :1])
        given_tokens = torch.from_numpy(motion_tokens(motion, pipeline.motion_vae))[None]
        token = torch.from_numpy(pipeline.motion_vae.representation.encode(motion[:1]))[None]
        token = pipeline.motion_vae.tokenise(token)
        generator = seeded(5)
        shapes = (2, LATENT_CHANNELS, HEIGHT // 8, WIDTH // 8), (4, TOKEN_CHANNELS)
        noise = [torch.randn(shape, generator=generator)[None] for shape in (*shapes, *shapes)]
        model = self.model(pipeline, first if mode != "tv2m" else given_latents[:, :1], token)
        if mode == "tm2v":
            model = self.model(pipeline, first, given_tokens[:, :1])
        absent_video, absent_motion = (Noised(x, torch.tensor([1000.0])) for x in noise[2:])
        for_video, for_motion = self.SCALES

        def predict(v: Noised, m: Noised):
            if mode == "t2vm":
                return guide_t2vm(model, v, m, absent_video, absent_motion, for_video, for_motion)
            if mode == "tm2v":
                return guide_tm2v(model, v, m, absent_motion, for_video), None
            return None, guide_tv2m(model, v, m, absent_video, for_motion)

        times = trailing_timesteps(4)[:, None]
        start_video = given_latents[:, 1:] if mode == "tv2m" else noise[0]
        start_motion = given_tokens[:, 1:] if mode == "tm2v" else noise[1]
        latents, tokens = sample(
            predict, NoiseSchedule(), start_video, start_motion,
            times * 0 if mode == "tv2m" else times, times * 0 if mode == "tm2v" else times,
        )  # fmt: skip
        seen = {}

        def watch(pipe, step, timestep, tensors):
            seen.update(tensors)
            return {}

        pipeline(
            "walk", mode, None if mode == "tv2m" else video[0], None if mode == "tm2v" else motion[:1],
            video if mode == "tv2m" else None, motion if mode == "tm2v" else None,
            num_frames=9, num_inference_steps=4, guidance_scale=1.5, motion_guidance_scale=2.5,
            motion_to_video_scale=2.0, video_to_motion_scale=0.5, generator=seeded(5),
            callback_on_step_end=watch, callback_on_step_end_tensor_inputs=["latents", "motion_tokens"],
        )  # fmt: skip
        torch.testing.assert_close(seen["latents"], latents, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(seen["motion_tokens"], tokens, atol=2e-4, rtol=1e-3)

    def test_dynamic_guidance_ends_where_the_constant_one_is(self):
        pipeline = published()

        def clip(scale: float, dynamic: bool) -> np.ndarray:
            return pipeline(
                "walk", "tm2v", frames(pipeline)[0], motion=walk(0.5), guidance_scale=scale, num_inference_steps=4,
                use_dynamic_cfg=dynamic, generator=seeded(),
            ).videos[0]  # fmt: skip

        np.testing.assert_array_equal(clip(1.0, True), clip(1.0, False))
        assert (clip(5.0, True) != clip(5.0, False)).any() and (clip(5.0, True) != clip(1.0, True)).any()

    def test_a_negative_prompt_takes_the_null_texts_place(self):
        pipeline = published()

        def clip(negative: str | None) -> np.ndarray:
            options = {"negative_prompt": negative, "generator": seeded(), "guidance_scale": 4.0}
            return pipeline("walk", "tm2v", frames(pipeline)[0], motion=walk(0.5), **options).videos[0]

        assert (clip(None) != clip("sit")).any()
        np.testing.assert_array_equal(
            clip("walk"),
            pipeline("walk", "tm2v", frames(pipeline)[0], motion=walk(0.5), guidance_scale=1.0, generator=seeded())
            .videos[0],
        )  # fmt: skip


class TestSamplers:
    @pytest.mark.parametrize("kind", [CogVideoXDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler])
    def test_schedulers_of_diffusers(self, kind):
        pipeline = published()
        reference = pipeline("walk", "t2vm", frames(pipeline)[0], walk(0, 1), num_inference_steps=3, generator=seeded())
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
        out = pipeline("walk", "t2vm", frames(pipeline)[0], walk(0, 1), num_inference_steps=3, generator=seeded())
        again = pipeline("walk", "t2vm", frames(pipeline)[0], walk(0, 1), num_inference_steps=3, generator=seeded())
        np.testing.assert_array_equal(out.videos[0], again.videos[0])
        assert same_motion(out.motions[0], again.motions[0])
        if kind is DDIMScheduler:
            assert np.abs(out.videos[0].astype(int) - reference.videos[0]).mean() < 1
        else:
            assert (out.videos[0] != reference.videos[0]).any()

    def test_each_modality_has_its_own_steps(self):
        pipeline = published()
        calls = []

        def watch(pipe, step, timestep, tensors):
            calls.append((round(timestep), tensors["latents"].clone(), tensors["motion_tokens"].clone()))
            return {}

        pipeline(
            "walk", "t2vm", frames(pipeline)[0], walk(0, 1), num_frames=5, num_inference_steps=2,
            motion_num_inference_steps=4, motion_lead=3, callback_on_step_end=watch,
            callback_on_step_end_tensor_inputs=["latents", "motion_tokens"], generator=seeded(),
        )  # fmt: skip
        assert [timestep for timestep, *_ in calls] == [999, 749, 499, 999, 499]
        moved = [not torch.equal(a[1], b[1]) for a, b in zip(calls, calls[1:], strict=False)]
        assert moved == [False, False, True, True]  # the video waits for three steps of the motion
        moved = [not torch.equal(a[2], b[2]) for a, b in zip(calls, calls[1:], strict=False)]
        assert moved == [True, True, True, False]

    def test_a_callback_may_change_the_latents(self):
        pipeline = published()
        zero = {"callback_on_step_end": lambda p, i, t, tensors: {"latents": 0 * tensors["latents"]}}
        one = pipeline("walk", "tm2v", frames(pipeline)[0], motion=walk(0.5), generator=seeded(1), **zero)
        two = pipeline("walk", "tm2v", frames(pipeline)[0], motion=walk(0.5), generator=seeded(2), **zero)
        np.testing.assert_array_equal(one.videos[0], two.videos[0])

    def test_a_callback_may_interrupt(self):
        pipeline = nano()

        def stop(pipe, step, timestep, tensors):
            pipe.interrupt = True
            return {}

        out = pipeline("walk", "tm2v", frames(pipeline)[0], motion=walk(0.5), callback_on_step_end=stop)
        assert len(out.videos[0]) == 5


class TestLongClips:
    def test_windows_share_frames_and_do_not_jump(self):
        pipeline = published()
        first = frames(pipeline)[0]
        out = pipeline("walk", "t2vm", first, walk(0, 1), num_frames=25, window_overlap=1, generator=seeded())
        assert out.videos[0].shape[0] == 25 and len(out.motions[0]) == 49
        steps = np.linalg.norm(np.diff(out.motions[0].T_world_head()[:, :3, 3], axis=0), axis=-1)
        seams = steps[16::8]
        assert seams.max() < 3 * np.median(steps) + 1e-3
        np.testing.assert_array_equal(
            out.videos[0][:9],
            pipeline("walk", "t2vm", first, walk(0, 1), num_frames=25, window_overlap=0, generator=seeded())
            .videos[0][:9],
        )  # fmt: skip

    @pytest.mark.parametrize("mode", ["tm2v", "tv2m"])
    def test_what_is_given_may_be_long(self, mode):
        pipeline = published()
        video, motion = frames(pipeline, 17), walk(1.0, 33)
        given = {"motion": motion} if mode == "tm2v" else {"video": video, "initial_pose": motion[:1]}
        first = {"first_frame": video[0]} if mode == "tm2v" else {}
        out = pipeline("walk", mode, **first, **given, window_overlap=1, generator=seeded())
        assert out.videos[0].shape == video.shape and len(out.motions[0]) == 33

    def test_overlap_must_leave_something(self):
        with pytest.raises(UserError, match="cannot overlap by 2"):
            published()("walk", "t2vm", frames(published())[0], walk(0, 1), num_frames=13, window_overlap=2)


class TestOutput:
    def test_types(self):
        pipeline = published()

        def made(kind: str) -> Any:
            start = frames(pipeline)[0], walk(0, 1)
            return pipeline("walk", "t2vm", *start, output_type=kind, generator=seeded()).videos[0]

        reference = made("uint8")
        assert all(isinstance(image, Image.Image) for image in made("pil"))
        np.testing.assert_array_equal(np.stack([np.asarray(image) for image in made("pil")]), reference)
        np.testing.assert_allclose(made("np"), reference / 255, atol=1e-6)
        assert made("pt").shape == (9, 3, HEIGHT, WIDTH)
        assert made("latent").shape == (3, LATENT_CHANNELS, HEIGHT // 8, WIDTH // 8)

    def test_tuple(self):
        pipeline = published()
        start = frames(pipeline)[0], walk(0, 1)
        videos, motions = pipeline("walk", "t2vm", *start, return_dict=False)
        assert len(videos) == len(motions) == 1

    def test_slicing_and_tiling(self):
        pipeline = published()
        video = [frames(pipeline, seed=0), frames(pipeline, seed=1)]
        call = (["walk"] * 2, "tm2v", [v[0] for v in video], None, None, [walk(0.5)] * 2)
        reference = pipeline(*call, generator=[seeded(0), seeded(1)]).videos
        pipeline.enable_vae_slicing()
        sliced = pipeline(*call, generator=[seeded(0), seeded(1)]).videos
        for a, b in zip(reference, sliced, strict=True):
            assert np.abs(a.astype(int) - b).max() <= 2
        pipeline.enable_vae_tiling()
        assert pipeline.video_vae.use_tiling
        pipeline.disable_vae_tiling()
        with pytest.raises(UserError, match="no tiling"):
            nano().enable_vae_tiling()


class TestFolder:
    @pytest.mark.parametrize("make", [nano, published])
    def test_round_trip(self, make, tmp_path):
        pipeline = make()
        pipeline.save_pretrained(tmp_path / "model")
        loaded = EgoTwinPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
        loaded.set_progress_bar_config(disable=True)
        video = frames(pipeline, 5)
        motions = [
            p("walk", "tv2m", initial_pose=walk(0, 1), video=video, generator=seeded()).motions[0]
            for p in (pipeline, loaded)
        ]
        # Loaded weights lie elsewhere in memory, and products of a processor then sum in another order.
        np.testing.assert_allclose(motions[0].root_position, motions[1].root_position, atol=1e-3)
        np.testing.assert_allclose(motions[0].joint_quat_wxyz, motions[1].joint_quat_wxyz, atol=1e-3)
        assert {k: v for k, v in loaded.config.items() if k[0] != "_"} == {
            k: v for k, v in pipeline.config.items() if k[0] != "_"
        }

    def test_shipped_weights(self):
        pipeline = EgoTwinPipeline.from_pretrained("nano")
        assert pipeline.config.height == 128 and pipeline.depth is not None

    def test_missing_weights_are_refused(self, tmp_path):
        published().save_pretrained(tmp_path)
        (tmp_path / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
        with pytest.raises(UserError, match="transformer"):
            EgoTwinPipeline.from_pretrained(tmp_path)
        with pytest.raises(UserError, match="model_index.json"):
            EgoTwinPipeline.from_pretrained(tmp_path / "transformer")

    def test_another_model_is_refused(self, tmp_path):
        pipeline = published()
        pipeline.save_pretrained(tmp_path)
        pipeline.video_vae.save_pretrained(tmp_path / "transformer")
        with pytest.raises(UserError, match="expected a EgoTwinTransformer3DModel|transformer"):
            EgoTwinPipeline.from_pretrained(tmp_path)

    def test_without_a_motion_vae_nothing_is_generated(self, tmp_path):
        pipeline = published()
        pipeline.register_modules(motion_vae=None)
        pipeline.save_pretrained(tmp_path)
        loaded = EgoTwinPipeline.from_pretrained(tmp_path)
        with pytest.raises(UserError, match="motion-vae"):
            loaded("walk", "t2vm", frames(pipeline)[0], walk(0, 1))


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"mode": "v2t"}, "mode is 'v2t'"),
            ({"first_frame": None}, "needs a first frame"),
            ({"first_frame": np.zeros((16, 16, 3), np.uint8)}, "first frame is uint8 \\(16, 16, 3\\)"),
            ({"initial_pose": None}, "needs an initial pose"),
            ({"initial_pose": np.zeros(10)}, "initial pose is"),
            ({"prompt": "  "}, "empty"),
            ({"prompt": "walk " * 300}, "token"),
            ({"num_frames": 8}, "8 video frames"),
            ({"num_frames": 1}, "1 video frames"),
            ({"motion": walk(0.5)}, "generates the motion"),
            ({"video": np.zeros((5, 8, 8, 3), np.uint8)}, "generates the video"),
            ({"mode": "tm2v"}, "needs a motion"),
            ({"mode": "tm2v", "motion": walk(0.5)}, "give no initial pose"),
            ({"mode": "tm2v", "motion": walk(0.5, 16), "initial_pose": None}, "16 frames"),
            ({"mode": "tm2v", "motion": walk(0.5).resampled(8.0), "initial_pose": None}, "8 frames/s; expected 16"),
            ({"mode": "tv2m", "first_frame": None}, "needs a video"),
            ({"mode": "tv2m", "first_frame": None, "video": np.zeros((5, 8, 8, 3), np.uint8)}, "resize it"),
            ({"motion_lead": 9}, "motion_lead is 9"),
            ({"num_inference_steps": 0}, "0 denoising steps"),
            ({"output_type": "gif"}, "output_type is 'gif'"),
            ({"callback_on_step_end_tensor_inputs": ["weights"]}, "cannot see weights"),
            ({"generator": [seeded(), seeded()]}, "1 prompts need 1 generators"),
        ],
    )
    def test_input(self, pipeline, change, message):
        call = {
            "prompt": "walk", "mode": "t2vm", "first_frame": frames(pipeline)[0], "initial_pose": walk(0, 1),
            "num_frames": 5, "num_inference_steps": 2, "motion_num_inference_steps": 2, "motion_lead": 0,
        } | change  # fmt: skip
        with pytest.raises(UserError, match=message):
            pipeline(**call)

    def test_lists_of_different_lengths(self):
        pipeline = published()
        with pytest.raises(UserError, match="2 prompts need 2 of first_frame"):
            pipeline(["walk", "walk"], "t2vm", [frames(pipeline)[0]], [walk(0, 1)] * 2)

    def test_a_scheduler_for_noise(self):
        pipeline = published()
        pipeline.scheduler = DDIMScheduler(prediction_type="epsilon")
        with pytest.raises(UserError, match="predicts the velocity"):
            pipeline("walk", "t2vm", frames(pipeline)[0], walk(0, 1))

    def test_a_scheduler_of_other_noise_levels(self):
        pipeline = nano()
        pipeline.scheduler = DDIMScheduler(prediction_type="v_prediction")
        with pytest.raises(UserError, match="noise levels"):
            pipeline("walk", "t2vm", frames(pipeline)[0], walk(0, 1), num_frames=5)

    def test_one_timestep_cannot_be_split(self):
        pipeline = published(shared_timestep=True)
        with pytest.raises(UserError, match="one timestep"):
            pipeline("walk", "tm2v", frames(pipeline)[0], motion=walk(0.5))

    @pytest.mark.parametrize(("part", "message"), [("proj_out", "video"), ("motion_proj_out", "motion")])
    @pytest.mark.parametrize("make", [nano, published])
    def test_nan_in_the_model_stops(self, make, part, message):
        pipeline = make()
        with torch.no_grad():
            getattr(pipeline.transformer, part).bias.fill_(torch.nan)
        with pytest.raises(FloatingPointError, match=message):
            pipeline("walk", "t2vm", frames(pipeline)[0], walk(0, 1), num_frames=5, num_inference_steps=1)

    def test_parts_of_different_models(self):
        pipeline = published()
        other = nano().motion_vae
        other.register_to_config(latent_channels=TOKEN_CHANNELS + 1)
        with pytest.raises(UserError, match="of another config"):
            EgoTwinPipeline(pipeline.transformer, pipeline.video_vae, other, pipeline.scheduler)
