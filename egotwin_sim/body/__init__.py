"""The MuJoCo humanoid: its model, its joint coordinates, and off-screen rendering.

MuJoCo loads its OpenGL backend while it is imported, and a missing library surfaces there as an obscure error; this
package therefore imports it first, with EGL as the backend unless `MUJOCO_GL` says otherwise. Its warnings go to
Python's logging, not to a file in the working folder.
"""

import logging
import os

from egotwin_sim.errors import UserError

os.environ.setdefault("MUJOCO_GL", "egl")

GL_PACKAGES = "libegl1 libgl1 libgles2 libgl1-mesa-dri"


def gl_error(reason: object) -> UserError:
    """The error for a machine without a working OpenGL library."""
    backend = os.environ.get("MUJOCO_GL", "")
    return UserError(
        f"OpenGL could not be loaded with MUJOCO_GL={backend} ({reason}); expected a working EGL or OSMesa library: "
        f"apt-get install {GL_PACKAGES}, leave MUJOCO_GL and PYOPENGL_PLATFORM unset, or set MUJOCO_GL=disable to work "
        "without pictures"
    )


try:
    import mujoco as mujoco
except Exception as error:  # the loaders raise AttributeError, RuntimeError, OSError and ImportError alike
    raise gl_error(error) from error

mujoco.set_mju_user_warning(logging.getLogger(__name__).warning)

__all__ = ["GL_PACKAGES", "gl_error", "mujoco"]
