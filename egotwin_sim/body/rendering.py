"""Off-screen rendering with MuJoCo: one OpenGL context per thread, colour and depth in one pass."""

from __future__ import annotations

import atexit
import importlib
import os
import threading

import mujoco
import numpy as np

from egotwin_sim.body import gl_error
from egotwin_sim.errors import UserError

_local = threading.local()
_leaving = False  # whether the process is ending
_orphans: list[mujoco.MjrContext] = []  # kept for ever: their thread, and so their OpenGL context, is not this one


def make_context_current() -> None:
    """Makes this thread's OpenGL context current; the first call creates it.

    Raises:
        UserError: no OpenGL context can be made, or the process was forked from one that rendered.
    """
    context = getattr(_local, "context", None)
    if context is not None and _local.pid != os.getpid():
        raise UserError(
            "this process was forked after rendering had begun, and OpenGL does not survive a fork; start worker "
            "processes with the spawn method"
        )
    try:
        if context is None:
            # The size is that of the unused window surface; images are drawn to each Canvas's own buffer.
            backend = importlib.import_module(f"mujoco.{os.environ.get('MUJOCO_GL', 'egl').lower()}")
            context = backend.GLContext(64, 64)
            _local.context, _local.pid = context, os.getpid()
            if threading.current_thread() is threading.main_thread():
                atexit.register(_leave)  # before the backend's own end, which leaves a context that cannot be freed
        context.make_current()
    except Exception as error:  # every backend has its own kinds
        raise gl_error(error) from error


def free_context() -> None:
    """Frees this thread's OpenGL context, if it has one; every `Canvas` of the thread must have been closed."""
    context = getattr(_local, "context", None)
    if context is not None and _local.pid == os.getpid():
        del _local.context
        context.free()


def _leave() -> None:
    """Frees the main thread's context at the end of the process; what is left of images goes with the process."""
    global _leaving
    _leaving = True
    free_context()


def tune_for_speed(spec: mujoco.MjSpec, width: int, height: int) -> None:
    """Sets a spec's off-screen size and turns multisampling and fine tessellation off."""
    quality = spec.visual.quality
    quality.offsamples = 0
    quality.shadowsize = 0
    quality.numslices = 20
    quality.numstacks = 10
    quality.numquads = 1
    getattr(spec.visual, "global").offwidth = width
    getattr(spec.visual, "global").offheight = height


class Canvas:
    """Draws one model; belongs to the thread that made it.

    Args:
        model: the compiled model; its off-screen size must cover the images asked for.
        hidden_group: geom group that `draw` leaves out unless `everything` is asked for.

    Raises:
        UserError: OpenGL is not available.
    """

    def __init__(self, model: mujoco.MjModel, hidden_group: int) -> None:
        make_context_current()
        self._thread, self._pid = threading.get_ident(), os.getpid()
        self._model = model
        try:
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as error:
            raise gl_error(error) from error
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 64)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_HAZE] = False
        self._partial, self._full = mujoco.MjvOption(), mujoco.MjvOption()
        self._full.geomgroup[:] = 1
        self._partial.geomgroup[:] = 1
        self._partial.geomgroup[hidden_group] = 0
        self._full.sitegroup[:] = 0
        self._partial.sitegroup[:] = 0

    def draw(
        self,
        data: mujoco.MjData,
        camera: mujoco.MjvCamera,
        width: int,
        height: int,
        *,
        everything: bool = False,
        sky: bool = False,
    ) -> None:
        """Draws the model as `data` has it into the off-screen buffer.

        Args:
            data: needs up-to-date kinematics, cameras and lights.
            camera: the view.
            width: of the image, pixels.
            height: of the image, pixels.
            everything: draw the hidden group as well, and the sky, and leave out planes that are seen from behind.
            sky: draw the sky, which a room's ceiling hides.
        """
        if threading.get_ident() != self._thread:
            raise UserError("a Canvas draws only in the thread that made it; make one world per thread")
        make_context_current()
        # Canvases of one thread share the OpenGL state, so another one's buffer may be bound, or a freed one.
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        option = self._full if everything else self._partial
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjv_updateScene(self._model, data, option, None, camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = everything or sky
        if everything:
            eye = np.mean([view.pos for view in self._scene.camera], axis=0)
            for geom in self._scene.geoms[: self._scene.ngeom]:
                if geom.type == mujoco.mjtGeom.mjGEOM_PLANE and (eye - geom.pos) @ geom.mat[:, 2] < 0.0:
                    geom.rgba[3] = 0.0
        mujoco.mjr_render(self._viewport, self._scene, self._context)

    def read_rgb(self) -> np.ndarray:
        """The colours last drawn, uint8 (H, W, 3)."""
        rgb = np.empty((self._viewport.height, self._viewport.width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(rgb, None, self._viewport, self._context)
        return np.ascontiguousarray(rgb[::-1])

    def read_rgbd(self) -> tuple[np.ndarray, np.ndarray]:
        """The colours last drawn, uint8 (H, W, 3), and the distance along the optical axis, float32 (H, W), metres."""
        rgb = np.empty((self._viewport.height, self._viewport.width, 3), dtype=np.uint8)
        depth = np.empty(rgb.shape[:2], dtype=np.float32)
        mujoco.mjr_readPixels(rgb, depth, self._viewport, self._context)
        near = self._model.vis.map.znear * self._model.stat.extent
        far = self._model.vis.map.zfar * self._model.stat.extent
        # The buffer holds 1 at the near plane and 0 at the far plane, linear in the inverse distance.
        inverse = depth[::-1] * np.float32(1.0 / near - 1.0 / far) + np.float32(1.0 / far)
        return np.ascontiguousarray(rgb[::-1]), np.reciprocal(inverse)

    def read_geoms(self, data: mujoco.MjData, camera: mujoco.MjvCamera, width: int, height: int) -> np.ndarray:
        """Draws and reads which geom each pixel shows: int32 (H, W), -1 where there is none."""
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = True
        flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        try:
            self.draw(data, camera, width, height)
            rgb = self.read_rgb().astype(np.int32)
        finally:
            flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = False
            flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = False
        segment = rgb[..., 0] + (rgb[..., 1] << 8) + (rgb[..., 2] << 16)
        geoms = np.full(self._scene.ngeom + 1, -1, dtype=np.int32)
        for shown in self._scene.geoms[: self._scene.ngeom]:
            if shown.segid >= 0 and shown.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                geoms[shown.segid + 1] = shown.objid
        return geoms[segment]

    def resize(self, width: int, height: int) -> None:
        """Changes the size of the off-screen buffer."""
        make_context_current()
        mujoco.mjr_resizeOffscreen(width, height, self._context)

    def close(self) -> None:
        """Frees the OpenGL buffers."""
        context, self._context = getattr(self, "_context", None), None
        if context is None:
            return
        if _leaving or threading.get_ident() != self._thread or os.getpid() != self._pid:
            # Freed here, the buffers of the same numbers in this thread's own context would go.
            _orphans.append(context)
            return
        make_context_current()
        context.free()

    def __del__(self) -> None:
        """Frees the OpenGL buffers of a forgotten canvas."""
        self.close()
