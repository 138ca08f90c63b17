"""`egotwin generate`: clips of video and body motion from texts, videos and motions in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from egotwin_sim.cli.jobs import Inputs, Job, read_inputs, read_jobs
from egotwin_sim.errors import UserError

if TYPE_CHECKING:
    from egotwin_sim.motion import Motion
    from egotwin_sim.pipelines.egotwin import EgoTwinPipeline

VIDEO_CRF = 12


def generate(
    text: Annotated[str | None, typer.Option(help="What happens, in a sentence; without it, the null text.")] = None,
    mode: Annotated[str, typer.Option(help="t2vm: both; tm2v: video from motion; tv2m: motion from video.")] = "t2vm",
    video: Annotated[Path | None, typer.Option(help="For tv2m: any video file.")] = None,
    motion: Annotated[Path | None, typer.Option(help="For tm2v: .npz (as this command writes it) or .bvh.")] = None,
    first_frame: Annotated[
        Path | None, typer.Option(help="A picture. Without it, nano looks into a procedural room.")
    ] = None,
    initial_pose: Annotated[
        Path | None, typer.Option(help="A motion whose first frame is the pose. Without it, someone who stands.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Many clips: a text a line, or .jsonl with a clip's options a line.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Shipped weights by name, a folder, or a hub's repository.")] = "nano",
    out: Annotated[Path, typer.Option(help="Folder for the clips; those that are there already stay.")] = Path(
        "outputs/generate"
    ),
    name: Annotated[str, typer.Option(help="Of the clip's files.")] = "clip",
    seconds: Annotated[float | None, typer.Option(help="Length at most, a multiple of 0.5.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise, and of the room if there is one.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Denoising steps, instead of the weights' own.")] = None,
    sampler: Annotated[str | None, typer.Option(help="ddim or dpm, instead of the weights' own.")] = None,
    guidance: Annotated[float | None, typer.Option(help="w_t, weight of the text.")] = None,
    other: Annotated[float | None, typer.Option(help="w_m or w_v, weight of the other modality.")] = None,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Let the guidance grow during denoising.")] = False,
    batch: Annotated[int, typer.Option(help="Clips at once.")] = 1,
    device: Annotated[
        str | None, typer.Option(help="Such as cpu or cuda:1.", show_default="a GPU if there is one")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, fp16 or bf16, instead of the weights' own.")] = None,
    offload: Annotated[bool, typer.Option("--offload", help="Keep parts that are not at work off the GPU.")] = False,
    tiling: Annotated[bool, typer.Option("--tiling", help="Code large frames in tiles, for less memory.")] = False,
) -> None:
    """Generate clips: `NAME.mp4`, `NAME.npz` (motion), `NAME.smplx.npz` (SMPL-X parameters) and `NAME.json` each.

    The same command goes on where an interrupted one stopped.
    """
    if batch < 1 or seed < 0:
        raise UserError(f"--batch {batch}, --seed {seed}: expected a batch of at least 1, a seed that is not negative")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    if prompts is not None and text is not None:
        raise UserError("--text and --prompts were both given: put the text into the file")
    template = Job(name, text, mode, seed, video, motion, first_frame, initial_pose)
    jobs = [template] if prompts is None else read_jobs(prompts, template)
    todo = [job for job in jobs if not _done(out, job)]
    if len(todo) < len(jobs):
        typer.echo(f"{len(jobs) - len(todo)} of {len(jobs)} clips are in {out} already")
    if not todo:
        return

    pipeline = _load(weights, device, dtype, sampler, batch, offload, tiling)
    frames = None if seconds is None else _frames(seconds, pipeline)
    for first in range(0, len(todo), batch):
        part = todo[first : first + batch]
        inputs = [_complete(job, read_inputs(job, pipeline.clip_shape, frames), pipeline) for job in part]
        for job, given in zip(part, inputs, strict=True):
            for note in given.notes:
                typer.echo(f"{job.name}: {note}")
        _generate(pipeline, part, inputs, out, frames, steps, guidance, other, dynamic)


def _done(out: Path, job: Job) -> bool:
    """Whether the job's clip is there; its description is written last.

    Raises:
        UserError: there is a clip of that name, made otherwise.
    """
    told = out / f"{job.name}.json"
    if not told.is_file():
        return False
    try:
        made = json.loads(told.read_text())["job"]
    except (json.JSONDecodeError, KeyError, TypeError):
        made = None
    if made != job.identity():
        raise UserError(f"{told} is of a clip that was made with other options: give another --name or --out")
    return True


def _load(
    weights: str, device: str | None, dtype: str | None, sampler: str | None, batch: int, offload: bool, tiling: bool
) -> EgoTwinPipeline:
    import torch
    from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
    from diffusers.schedulers.scheduling_dpm_cogvideox import CogVideoXDPMScheduler

    from egotwin_sim.pipelines import EgoTwinPipeline
    from egotwin_sim.pipelines.memory import check_memory

    samplers = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}
    dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if sampler is not None and sampler not in samplers:
        raise UserError(f"--sampler {sampler}: expected {' or '.join(samplers)}")
    if dtype is not None and dtype not in dtypes:
        raise UserError(f"--dtype {dtype}: expected {', '.join(dtypes)}")
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    options = {} if dtype is None else {"dtype": dtypes[dtype]}
    pipeline = EgoTwinPipeline.from_pretrained(weights, **options)
    if sampler is not None:
        pipeline.scheduler = samplers[sampler].from_config(pipeline.scheduler.config)
    if tiling:
        pipeline.enable_vae_tiling()
    check_memory(pipeline, chosen, batch=batch, offload=offload)
    if offload:
        pipeline.enable_model_cpu_offload(device=chosen)
    else:
        pipeline.to(chosen)
    return pipeline


def _frames(seconds: float, pipeline: EgoTwinPipeline) -> int:
    from egotwin_sim.models.video_vae import FRAMES_PER_LATENT

    fps = pipeline.clip_shape.video_fps
    frames = seconds * fps
    if not frames >= FRAMES_PER_LATENT or frames % FRAMES_PER_LATENT:
        raise UserError(f"--seconds {seconds:g}: expected a positive multiple of {FRAMES_PER_LATENT / fps:g}")
    return round(frames) + 1


def _complete(job: Job, inputs: Inputs, pipeline: EgoTwinPipeline) -> Inputs:
    """What the job left open: nano's first frame from a room, and the pose of someone who stands."""
    needs_frame = job.mode != "tv2m" and inputs.first_frame is None
    needs_pose = job.mode != "tm2v" and inputs.initial_pose is None
    frame, pose, notes = inputs.first_frame, inputs.initial_pose, list(inputs.notes)
    if needs_frame:
        if pipeline.depth is None:
            raise UserError(f"{job.name}: give --first-frame; these weights have not been trained on procedural rooms")
        frame, start, seen = _room_view(job, inputs, pipeline.clip_shape.height)
        notes.append(seen)
        if needs_pose:
            pose, needs_pose = start, False
    if needs_pose:
        pose = _standing(pipeline)
        notes.append("no --initial-pose: someone who stands")
    return Inputs(frame, inputs.video, inputs.motion, pose, tuple(notes))


def _room_view(job: Job, inputs: Inputs, size: int) -> tuple[np.ndarray, Motion, str]:
    """The first frame from where a body stands in a room that has what the text names, and that body."""
    from egotwin_sim.cli.demo import room_for
    from egotwin_sim.motion.head_centric import set_down
    from egotwin_sim.room.synthesis import synthesise
    from egotwin_sim.room.world import RoomWorld

    try:
        layout, _, room_seed = room_for(job.text, job.seed)
    except UserError:  # the text names nothing of a room's: any room will do
        layout, _, room_seed = room_for(None, job.seed)
    start = synthesise(layout, job.seed, 0.5).motion[:1]
    given = inputs.motion if inputs.motion is not None else inputs.initial_pose
    if given is not None:
        start = set_down(given[:1], given[:1], start)
    world = RoomWorld(layout, size=size)
    try:
        frame = world.record(start, np.zeros(1))[0][0]
    finally:
        world.close()
    return frame, start, f"first frame from procedural room {room_seed} ({', '.join(layout.names)})"


def _standing(pipeline: EgoTwinPipeline) -> Motion:
    from egotwin_sim.motion import Motion

    skeleton = pipeline.clip_shape.skeleton
    quat = np.zeros((1, skeleton.num_joints, 4), np.float32)
    quat[..., 0] = 1
    root = np.array([[0, 0, skeleton.rest_root_height]], np.float32)
    return Motion(root, quat, skeleton, pipeline.clip_shape.motion_fps)


def _generate(
    pipeline: EgoTwinPipeline,
    jobs: list[Job],
    inputs: list[Inputs],
    out: Path,
    frames: int | None,
    steps: int | None,
    guidance: float | None,
    other: float | None,
    dynamic: bool,
) -> None:
    import torch

    options: dict[str, Any] = {
        "num_inference_steps": steps,
        "motion_num_inference_steps": steps,
        "guidance_scale": guidance,
        "motion_to_video_scale": other,
        "video_to_motion_scale": other,
        "use_dynamic_cfg": dynamic,
        "num_frames": frames,
    }
    videos, motions = pipeline(
        [job.text for job in jobs],
        [job.mode for job in jobs],
        [given.first_frame for given in inputs],
        [None if job.mode == "tm2v" else given.initial_pose for job, given in zip(jobs, inputs, strict=True)],
        [given.video for given in inputs],
        [given.motion for given in inputs],
        generator=[torch.Generator().manual_seed(job.seed) for job in jobs],
        return_dict=False,
        **options,
    )
    told = {name: value for name, value in options.items() if value is not None}
    for job, given, clip, motion in zip(jobs, inputs, videos, motions, strict=True):
        about = {"job": job.identity(), "options": told, "notes": list(given.notes)}
        _write(out, job.name, clip, motion, about, round(pipeline.clip_shape.video_fps))
        typer.echo(f"{out / job.name}.mp4: {len(clip)} frames; {job.name}.npz: {len(motion)} motion frames")


def _write(out: Path, name: str, video: np.ndarray, motion: Motion, about: dict[str, Any], fps: int) -> None:
    """The files of a clip, each written beside and then renamed, its description last."""
    from egotwin_sim.data.disk import writing
    from egotwin_sim.data.video_file import Encoding, encode_video
    from egotwin_sim.files import replacing
    from egotwin_sim.motion.smpl import write_smplx

    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        motion.save(out / f"{name}.npz")
        write_smplx(out / f"{name}.smplx.npz", motion)
        contents = (
            ("mp4", encode_video(video, fps, Encoding(crf=VIDEO_CRF))),
            ("json", json.dumps(about, indent=2).encode()),
        )
        for suffix, content in contents:
            with replacing(out / f"{name}.{suffix}") as partial:
                partial.write_bytes(content)
