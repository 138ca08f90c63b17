"""The paper's model as a pipeline of diffusers: both modalities from text, or one of them from the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from diffusers.utils import BaseOutput, is_accelerate_available
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from egotwin_sim.diffusion.guidance import GuidanceScales
from egotwin_sim.diffusion.schedule import alphas_cumprod
from egotwin_sim.diffusion.stepper import Stepper
from egotwin_sim.errors import UserError
from egotwin_sim.models.depth import DepthNet
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.text_encoder import T5, TextEncoder, load_text_encoder
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT, VideoVAE
from egotwin_sim.models.vidmld import VidMLD
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.pipelines.clip_inputs import MODES, ClipInput, ClipShape, clip_input
from egotwin_sim.pipelines.memory_rollout import MemoryRollout
from egotwin_sim.pipelines.pipeline import Pipeline, settle_weights
from egotwin_sim.pipelines.prompts import Prompts, encode_prompts
from egotwin_sim.pipelines.published_rollout import PublishedRollout
from egotwin_sim.pipelines.rollout import Rollout
from egotwin_sim.pipelines.video_codec import SPATIAL, VideoCodec
from egotwin_sim.pipelines.weights import StreamConfig, shipped_folder, shipped_weights
from egotwin_sim.pipelines.window import Guidance, WindowNoise, denoise

OUTPUT_TYPES = ("uint8", "pil", "np", "pt", "latent")
VIDEO_READ_STEPS = 4
"""A stream's model reads motion from video in a few steps, unguided: guidance only makes it less exact."""
INDEX_NAME = DiffusionPipeline.config_name


@dataclass
class EgoTwinPipelineOutput(BaseOutput):
    """Clips of 1 + 4K video frames and 1 + 8K motion frames, in the order of the prompts.

    Attributes:
        videos: of each clip uint8 (1 + 4K, H, W, 3); or, by the output type, PIL images, float (1 + 4K, H, W, 3) or
            (1 + 4K, 3, H, W) in [0, 1], or latents (1 + K, C, h, w). What was given comes back as it was.
        motions: of each clip the body in the world.
        modes: how each clip was made.
    """

    videos: list[Any]
    motions: list[Motion]
    modes: list[str]


class EgoTwinPipeline(DiffusionPipeline):
    """Generates first-person video and body motion (EgoTwin, arXiv 2508.13013).

    Three modes: ``t2vm`` both from text, ``tm2v`` video from text and motion (equation 3), ``tv2m`` motion from text
    and video (its mirror image). A clip starts from a first frame and an initial pose, whose latent and motion token
    stay clean. Each modality has its own timesteps; the guidance is the paper's (``egotwin_sim.diffusion.guidance``).

    Weights with a depth net (nano) make their clips chunk by chunk as a stream does; others in one window, and clips
    longer than `num_frames` of the config in overlapping ones.

    Args:
        transformer: denoises.
        video_vae: codes the frames: nano's own, or CogVideoX's.
        motion_vae: codes the body; without it (stage one is still to be trained) nothing can be generated.
        scheduler: of diffusers, for v-prediction; see ``diffusion.stepper`` for those that are known to work.
        text_encoder: a T5 encoder; None where `text` says which other encoder to use.
        tokenizer: of the T5.
        depth: how far away a frame's pixels are, for the view memory of nano.
        height, width: of the frames, pixels; those that the transformer was made for when None.
        num_frames: video frames of a clip, 1 + 4K, as trained.
        video_fps, motion_fps: frames per second.
        temporal: "bidirectional", or "causal" for weights that stream.
        stature: of the body, metres.
        text: what ``load_text_encoder`` takes, where there is no T5; ``max_length`` counts for a T5 too.
        sampling: defaults of the call: `num_inference_steps`, `guidance_scale` and so on; under the name of a mode
            those of that mode.
        stream: what a stream needs to know (``StreamConfig``), for nano.

    Raises:
        UserError: parts that do not belong together.
    """

    model_cpu_offload_seq = "text_encoder->transformer->video_vae"
    _optional_components = ["text_encoder", "tokenizer", "depth", "motion_vae"]
    _exclude_from_cpu_offload = ["motion_vae", "depth"]
    _callback_tensor_inputs = ["latents", "motion_tokens"]

    def __init__(
        self,
        transformer: EgoTwinTransformer3DModel | VidMLD,
        video_vae: VideoVAE | AutoencoderKLCogVideoX,
        motion_vae: MotionVAE | None,
        scheduler: Any,
        text_encoder: Any = None,
        tokenizer: Any = None,
        depth: DepthNet | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int = 41,
        video_fps: float = 8.0,
        motion_fps: float = 16.0,
        temporal: str = "bidirectional",
        stature: float = 1.75,
        text: dict[str, Any] | None = None,
        sampling: dict[str, Any] | None = None,
        stream: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer,
            video_vae=video_vae,
            motion_vae=motion_vae,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            depth=depth,
        )
        height = height or transformer.config.sample_height * SPATIAL
        width = width or transformer.config.sample_width * SPATIAL
        self.register_to_config(
            height=height, width=width, num_frames=num_frames, video_fps=video_fps, motion_fps=motion_fps,
            temporal=temporal, stature=stature, text=text, sampling=dict(sampling or {}), stream=stream,
        )  # fmt: skip
        if temporal not in ("bidirectional", "causal"):
            raise UserError(f"temporal is {temporal!r}; expected bidirectional or causal")
        if height % SPATIAL or width % SPATIAL or (num_frames - 1) % FRAMES_PER_LATENT or num_frames < 5:
            raise UserError(
                f"clips of {num_frames} frames of {width} x {height} cannot be coded; expected 1 + 4 K frames and "
                f"multiples of {SPATIAL} pixels"
            )
        if motion_vae is not None and motion_vae.config.latent_channels != transformer.config.motion_channels:
            raise UserError(
                f"the transformer takes motion tokens of {transformer.config.motion_channels} channels, this motion "
                f"VAE gives {motion_vae.config.latent_channels}: the weights are of another config"
            )
        self.codec = VideoCodec(video_vae)
        self._encoder: TextEncoder | None = None
        self._interrupt = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path = "nano", **kwargs: Any) -> EgoTwinPipeline:
        """Load shipped weights by name ("nano"), a folder, or a repository of a hub.

        Args:
            pretrained_model_name_or_path: name, folder or repository.
            **kwargs: of diffusers' method: `torch_dtype`, parts to use instead of the stored ones, and so on. Without
                a `torch_dtype`, nano's products are computed in bf16.

        Raises:
            UserError: a folder that holds no pipeline, weights of another model, or missing ones.
        """
        name = str(pretrained_model_name_or_path)
        folder = shipped_folder(name) if name in shipped_weights() else Path(name)
        if folder.is_dir() and not (folder / INDEX_NAME).is_file():
            raise UserError(
                f"{folder} has no {INDEX_NAME}: expected what `egotwin model init`, `egotwin train pack` or "
                "save_pretrained wrote"
            )
        if not is_accelerate_available():
            kwargs.setdefault("low_cpu_mem_usage", False)
        try:
            pipeline = super().from_pretrained(folder if folder.is_dir() else name, **kwargs)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"{name} does not load as an EgoTwinPipeline ({reason})") from error
        if pipeline.depth is not None and kwargs.get("torch_dtype") is None and kwargs.get("dtype") is None:
            for module in (pipeline.video_vae, pipeline.depth, pipeline.motion_vae, pipeline.transformer):
                settle_weights(module, "bf16")
        return pipeline

    @classmethod
    def of_stream(cls, networks: Pipeline) -> EgoTwinPipeline:
        """The pipeline of a stream's networks: steps, guidance and window as the stream has them."""
        config = networks.config
        return cls(
            networks.transformer,
            networks.video_vae,
            networks.motion_vae,
            CogVideoXDDIMScheduler(
                beta_schedule="scaled_linear", prediction_type="v_prediction", rescale_betas_zero_snr=True,
                snr_shift_scale=networks.schedule.config.snr_shift_scale, timestep_spacing="trailing",
                clip_sample=False,
            ),
            depth=networks.depth_net,
            height=config.image_size,
            width=config.image_size,
            video_fps=config.video_fps,
            motion_fps=config.motion_fps,
            temporal="causal",
            stature=config.stature,
            text=dict(config.text_encoder),
            sampling={
                "num_inference_steps": config.view_steps,
                "motion_num_inference_steps": config.body_steps,
                "motion_lead": "all",
                "guidance_scale": 1.0,
                "motion_guidance_scale": config.body_guidance,
                "tv2m": {"motion_num_inference_steps": VIDEO_READ_STEPS, "motion_guidance_scale": 1.0},
            },
            stream=asdict(config),
        )  # fmt: skip

    def save_index(self, folder: Path) -> None:
        """Write what says how the parts in a folder belong together, and the scheduler, but no weights."""
        self.save_config(folder)
        self.scheduler.save_pretrained(folder / "scheduler")

    def enable_vae_slicing(self) -> None:
        """Code the clips of a batch one by one, which takes less memory."""
        self.codec.slicing = True

    def disable_vae_slicing(self) -> None:
        """Code the clips of a batch together again."""
        self.codec.slicing = False

    def enable_vae_tiling(self) -> None:
        """Code large frames in overlapping tiles, which takes less memory.

        Raises:
            UserError: nano's video VAE has no need of it and does not offer it.
        """
        self._published_vae().enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Code frames whole again."""
        self._published_vae().disable_tiling()

    @property
    def interrupt(self) -> bool:
        """Set to True, for example by a callback, it ends the denoising before the next window."""
        return self._interrupt

    @interrupt.setter
    def interrupt(self, wanted: bool) -> None:
        self._interrupt = wanted

    @property
    def clip_shape(self) -> ClipShape:
        """What the clips of this model look like."""
        config = self.config
        return ClipShape(
            config.height,
            config.width,
            config.video_fps,
            config.motion_fps,
            Skeleton.default(config.stature),
            round(FRAMES_PER_LATENT * config.motion_fps / config.video_fps),
        )

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | None | Sequence[str | None] = None,
        mode: str | Sequence[str] = "t2vm",
        first_frame: Any = None,
        initial_pose: Any = None,
        video: Any = None,
        motion: Any = None,
        *,
        negative_prompt: str | None | Sequence[str | None] = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        motion_num_inference_steps: int | None = None,
        motion_lead: int | str | None = None,
        guidance_scale: float | None = None,
        motion_guidance_scale: float | None = None,
        motion_to_video_scale: float | None = None,
        video_to_motion_scale: float | None = None,
        use_dynamic_cfg: bool = False,
        window_overlap: int = 2,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "uint8",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Tensor]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> EgoTwinPipelineOutput | tuple[list[Any], list[Motion]]:
        """Generate clips.

        With a list of prompts every other per-clip argument is a list of that length (or one value for all of `mode`
        and `negative_prompt`); modes may be mixed. Clips of the same mode and length are denoised together.

        Args:
            prompt: what happens in the first person's view, or None for the null text.
            mode: "t2vm", "tm2v" or "tv2m".
            first_frame: a PIL image or uint8 (H, W, 3); not for "tv2m".
            initial_pose: head-centric state (D,), or a motion whose last frame is the pose; not for "tm2v".
            video: uint8 (1 + 4K, H, W, 3) or PIL images, for "tv2m".
            motion: a motion of 1 + 8K frames, for "tm2v".
            negative_prompt: what guidance leads away from instead of the null text.
            num_frames: video frames 1 + 4K of a "t2vm" clip; the config's when None. It may be longer than the model
                was trained on, and so may what is given.
            num_inference_steps: denoising steps of the video.
            motion_num_inference_steps: of the motion; those of the video when None.
            motion_lead: "t2vm": steps that the motion takes before the video's first. 0 denoises both together, as
                the paper does; "all" dreams the body first, and its view then.
            guidance_scale: w_t, weight of the text for the video. 1 is none.
            motion_guidance_scale: w_t for the motion; the video's when None.
            motion_to_video_scale: w_m, weight of the motion for the video.
            video_to_motion_scale: w_v, weight of the video for the motion.
            use_dynamic_cfg: let the scales grow from 1 (``diffusion.stepper.dynamic_scale``).
            window_overlap: chunks of half a second that windows of a long clip share.
            generator: of the noise; a list has one for each clip, whose result then does not depend on the others.
            output_type: "uint8", "pil", "np", "pt" or "latent", see ``EgoTwinPipelineOutput``.
            return_dict: an ``EgoTwinPipelineOutput`` rather than the tuple of videos and motions.
            callback_on_step_end: ``(pipeline, step, timestep, tensors) -> tensors`` after every denoising step.
            callback_on_step_end_tensor_inputs: of "latents" and "motion_tokens", those of the window at work.

        Raises:
            UserError: inputs that do not fit the mode or the model, see ``clip_inputs``; a text that is empty or too
                long; weights that the mode was not trained for.
            FloatingPointError: the model gave a number that is not finite.
        """
        if output_type not in OUTPUT_TYPES:
            raise UserError(f"output_type is {output_type!r}; expected one of {', '.join(OUTPUT_TYPES)}")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise UserError(
                f"a callback cannot see {', '.join(sorted(unknown))}; expected {self._callback_tensor_inputs}"
            )
        motion_vae = self._motion_vae()
        single = prompt is None or isinstance(prompt, str)
        prompts = [prompt] if prompt is None or isinstance(prompt, str) else list(prompt)
        count = len(prompts)

        def each(name: str, value: Any, *, shared: bool = False) -> list[Any]:
            if single or value is None or (shared and isinstance(value, str)):
                return [value] * count
            if isinstance(value, str | np.ndarray | Motion) or not isinstance(value, Sequence) or len(value) != count:
                raise UserError(f"{count} prompts need {count} of {name}, in a list")
            return list(value)

        shape = self.clip_shape
        frames = num_frames or self.config.num_frames
        arguments = zip(
            each("mode", mode, shared=True), each("first_frame", first_frame), each("initial_pose", initial_pose),
            each("video", video), each("motion", motion), strict=True,
        )  # fmt: skip
        clips = [clip_input(how, shape, frames, *rest) for how, *rest in arguments]
        self._check_modes(clips)
        if isinstance(generator, list) and len(generator) != count:
            raise UserError(f"{count} prompts need {count} generators, or a single one; got {len(generator)}")

        given = dict(
            num_inference_steps=num_inference_steps, motion_num_inference_steps=motion_num_inference_steps,
            motion_lead=motion_lead, guidance_scale=guidance_scale, motion_guidance_scale=motion_guidance_scale,
            motion_to_video_scale=motion_to_video_scale, video_to_motion_scale=video_to_motion_scale,
        )  # fmt: skip
        settings = {mode: self._settings(mode, given) for mode in {clip.mode for clip in clips}}
        told = encode_prompts(
            self._text(), prompts, each("negative_prompt", negative_prompt, shared=True), self._execution_device
        )
        noise = self._noise(clips, generator, motion_vae.config.latent_channels)
        self._interrupt = False
        videos: list[Any] = [None] * count
        motions: list[Any] = [None] * count
        done = 0
        groups = _groups(clips)
        with self.progress_bar(total=sum(clips[rows[0]].chunks for rows in groups)) as bar:
            for rows in groups:
                setting = settings[clips[rows[0]].mode]
                guidance = Guidance(
                    GuidanceScales(setting["guidance_scale"], setting["motion_to_video_scale"]),
                    GuidanceScales(setting["motion_guidance_scale"], setting["video_to_motion_scale"]),
                    use_dynamic_cfg,
                    shared=self._shared_timestep(setting),
                )
                rollout = self._rollout([clips[row] for row in rows], told.index(rows), window_overlap)
                mine = [generator[row] for row in rows] if isinstance(generator, list) else generator
                while not self._interrupt and (window := rollout.next_window()) is not None:
                    done = self._denoise(
                        window, rollout, [noise[row] for row in rows], setting, guidance, mine,
                        callback_on_step_end, callback_on_step_end_tensor_inputs, done, bar,
                    )  # fmt: skip
                shown = list(rollout.latents()) if output_type == "latent" else rollout.videos()
                for row, clip_video, clip_motion in zip(rows, shown, rollout.motions(), strict=True):
                    videos[row] = _as_output(clip_video, output_type)
                    motions[row] = clip_motion
        self.maybe_free_model_hooks()
        if not return_dict:
            return videos, motions
        return EgoTwinPipelineOutput(videos=videos, motions=motions, modes=[clip.mode for clip in clips])

    def _denoise(
        self,
        window: Any,
        rollout: Rollout,
        noise: list[WindowNoise],
        setting: dict[str, Any],
        guidance: Guidance,
        generator: Any,
        callback: Callable[..., dict[str, Tensor]] | None,
        wanted: Sequence[str],
        done: int,
        bar: Any,
    ) -> int:
        """Denoise a window and give it to the roll-out; returns the denoising steps that are done by then."""
        first = rollout.progress
        last = first + window.chunks
        draws = WindowNoise(
            *(
                torch.stack([getattr(entry, name)[first * per : last * per] for entry in noise])
                for name, per in (("video", 1), ("motion", 2), ("absent_video", 1), ("absent_motion", 2))
            )
        )
        device = self._execution_device

        def stepper(steps: int) -> Stepper:
            return Stepper(self.scheduler, steps, device, generator)

        def after_step(timestep: float, latents: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal done
            if callback is not None:
                tensors = {"latents": latents, "motion_tokens": tokens}
                given = callback(self, done, timestep, {name: tensors[name] for name in wanted}) or {}
                latents, tokens = given.get("latents", latents), given.get("motion_tokens", tokens)
            done += 1
            return latents, tokens

        latents, tokens = denoise(
            window,
            draws,
            stepper(setting["num_inference_steps"]) if window.video is None else None,
            stepper(setting["motion_num_inference_steps"]) if window.motion is None else None,
            setting["motion_lead"] if window.video is None else 0,
            guidance,
            after_step,
        )
        rollout.remember(window, latents, tokens)
        bar.update(rollout.progress - first)
        return done

    def _rollout(self, clips: list[ClipInput], prompts: Prompts, overlap: int) -> Rollout:
        if self.depth is not None:
            return MemoryRollout(self._networks(), clips, prompts)
        return PublishedRollout(
            self.transformer,
            self.codec,
            self._motion_vae(),
            self.clip_shape,
            clips,
            prompts,
            window=(self.config.num_frames - 1) // FRAMES_PER_LATENT,
            overlap=overlap,
            temporal=self.config.temporal,
            autocast=self._autocast,
            device=self._execution_device,
        )

    def _networks(self) -> Pipeline:
        """The nano form's networks with what surrounds their denoising."""
        alphas = getattr(self.scheduler, "alphas_cumprod", None)
        networks = Pipeline(
            self.video_vae, self.depth, self._motion_vae(), self.transformer, self._text(),
            StreamConfig(**(self.config.stream or {})),
            precision="bf16" if self._product_dtype == torch.bfloat16 else "fp32",
        )  # fmt: skip
        expected = alphas_cumprod(networks.schedule.config)
        if (
            alphas is None
            or len(alphas) != len(expected)
            or not torch.allclose(alphas.float().cpu(), expected, atol=1e-3)
        ):
            raise UserError(
                "the scheduler's noise levels are not those that the weights were trained with; build it from the "
                "pipeline's: SchedulerClass.from_config(pipeline.scheduler.config)"
            )
        return networks

    @property
    def _product_dtype(self) -> torch.dtype:
        return self.transformer.proj_out.weight.dtype

    def _autocast(self) -> torch.autocast:
        dtype = self._product_dtype
        low = dtype in (torch.bfloat16, torch.float16)
        return torch.autocast(self._execution_device.type, dtype if low else torch.bfloat16, enabled=low)

    def _motion_vae(self) -> MotionVAE:
        """The motion VAE in float32: a body's numbers do not bear less."""
        if self.motion_vae is None:
            raise UserError(
                "this model has no motion VAE yet: train stage one (`egotwin train motion-vae`) and collect its "
                "weights (`egotwin train pack`)"
            )
        return self.motion_vae.float() if self.motion_vae.dtype != torch.float32 else self.motion_vae

    def _published_vae(self) -> AutoencoderKLCogVideoX:
        if not isinstance(self.video_vae, AutoencoderKLCogVideoX):
            raise UserError("nano's video VAE has no tiling: its frames are small enough to be coded whole")
        return self.video_vae

    def _text(self) -> TextEncoder:
        choice = dict(self.config.text or {"kind": "minilm"})
        if self.text_encoder is not None:
            longest = choice.get("max_length", self.transformer.config.max_text_seq_length)
            return T5.of(self.text_encoder, self.tokenizer, longest)
        if self._encoder is None:
            self._encoder = load_text_encoder(choice)
        return self._encoder

    def _shared_timestep(self, setting: dict[str, Any]) -> bool:
        """Whether the weights have one timestep for both modalities; their steps must then go together."""
        shared = bool(self.transformer.config.get("shared_timestep", False))
        apart = setting["num_inference_steps"] != setting["motion_num_inference_steps"]
        if shared and (apart or setting["motion_lead"]):
            raise UserError(
                "these weights were trained with one timestep for video and motion: give both the same number of "
                "steps, and no motion_lead"
            )
        return shared

    def _check_modes(self, clips: list[ClipInput]) -> None:
        if self.transformer.config.get("shared_timestep", False):
            wrong = [clip.mode for clip in clips if clip.mode != "t2vm"]
            if wrong:
                raise UserError(
                    f"these weights were trained with one timestep for video and motion, so neither can be given while "
                    f"the other is denoised: mode {wrong[0]} needs weights of asynchronous diffusion"
                )

    def _settings(self, mode: str, given: dict[str, Any]) -> dict[str, Any]:
        """What was given, else the config's, else the paper's form: 50 steps of both together, guided by the text."""
        setting: dict[str, Any] = {
            "num_inference_steps": 50,
            "motion_num_inference_steps": None,
            "motion_lead": 0,
            "guidance_scale": 6.0,
            "motion_guidance_scale": None,
            "motion_to_video_scale": 1.0,
            "video_to_motion_scale": 1.0,
        }
        told = dict(self.config.sampling)
        own = [told.pop(name, {}) for name in MODES]
        setting |= told | own[MODES.index(mode)]
        setting |= {name: value for name, value in given.items() if value is not None}
        if given["guidance_scale"] is not None and given["motion_guidance_scale"] is None:
            setting["motion_guidance_scale"] = given["guidance_scale"]
        for name, source in (
            ("motion_num_inference_steps", "num_inference_steps"),
            ("motion_guidance_scale", "guidance_scale"),
        ):
            if setting[name] is None:
                setting[name] = setting[source]
        steps = setting["motion_num_inference_steps"]
        lead = setting["motion_lead"] = steps if setting["motion_lead"] == "all" else setting["motion_lead"]
        if not isinstance(lead, int) or not 0 <= lead <= steps:
            raise UserError(f'motion_lead is {lead!r}; expected 0 to the motion\'s {steps} steps, or "all"')
        return setting

    def _noise(
        self, clips: list[ClipInput], generator: torch.Generator | list[torch.Generator] | None, token_channels: int
    ) -> list[WindowNoise]:
        """Of each clip all its draws, without a batch dimension: they do not depend on how it is cut or grouped."""
        config, device = self.config, self._execution_device
        latent = (self.codec.channels, config.height // SPATIAL, config.width // SPATIAL)
        draws = []
        for row, clip in enumerate(clips):
            source = generator[row] if isinstance(generator, list) else generator
            shapes = (clip.chunks, *latent), (2 * clip.chunks, token_channels)
            draws.append(
                WindowNoise(*(randn_tensor(shape, generator=source, device=device) for shape in (*shapes, *shapes)))
            )
        return draws


def _groups(clips: list[ClipInput]) -> list[list[int]]:
    """Rows that can be denoised together: of one mode and one length."""
    groups: dict[tuple[str, int], list[int]] = {}
    for row, clip in enumerate(clips):
        groups.setdefault((clip.mode, clip.chunks), []).append(row)
    return list(groups.values())


def _as_output(video: Any, output_type: str) -> Any:
    if output_type == "pil":
        return [Image.fromarray(frame) for frame in video]
    if output_type == "np":
        return video.astype(np.float32) / 255
    if output_type == "pt":
        return torch.from_numpy(video).permute(0, 3, 1, 2).float() / 255
    return video
