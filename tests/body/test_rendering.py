from __future__ import annotations

import os
import subprocess
import sys

import pytest

RENDER = """
from egotwin_sim.errors import UserError
try:
    from egotwin_sim.room.layout import sample_layout
    from egotwin_sim.room.world import RoomWorld
    RoomWorld(sample_layout(0)).render()
except UserError as error:
    print("UserError:", error)
"""

FORK = """
import os
from egotwin_sim.errors import UserError
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.world import RoomWorld
world = RoomWorld(sample_layout(0))
world.render()
if os.fork() == 0:
    try:
        world.render()
    except UserError as error:
        os.write(1, str(error).encode())
    os._exit(0)
os.wait()
"""

THREADS = """
import threading
from egotwin_sim.errors import UserError
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.world import RoomWorld
mine = RoomWorld(sample_layout(0))
before = mine.render()
theirs = []
def work():
    world = RoomWorld(sample_layout(1))
    world.render()
    theirs.append(world)
thread = threading.Thread(target=work)
thread.start()
thread.join()
try:
    theirs[0].render()
except UserError as error:
    print(error)
theirs.clear()
print("same" if (mine.render() == before).all() else "changed")
"""


def run(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "env",
    [
        {"PYOPENGL_PLATFORM": "glx"},
        {"MUJOCO_GL": "nonsense"},
        {"MUJOCO_GL": "disable"},
        # The loader of vendor libraries finds none, as on a machine without Mesa.
        {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent"},
    ],
)
def test_missing_opengl_names_the_packages(env: dict[str, str]) -> None:
    result = run(RENDER, **env)
    assert "UserError:" in result.stdout, result.stderr
    assert "libegl1" in result.stdout
    assert "MUJOCO_GL" in result.stdout


def test_rendering_needs_no_environment_variable_and_exits_cleanly() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    result = subprocess.run([sys.executable, "-c", RENDER], env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert result.stdout == ""
    assert result.stderr == ""


def test_a_forked_process_is_told_to_spawn() -> None:
    assert "spawn" in run(FORK).stdout


def test_a_world_of_another_thread_is_refused_and_its_end_harms_nobody() -> None:
    result = run(THREADS)
    assert "thread" in result.stdout
    assert result.stdout.endswith("same\n"), result.stderr
