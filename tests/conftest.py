"""Settings for every test: one thread each, rendering without a screen, no time limits in property tests."""

import os

# Before torch, NumPy or MuJoCo are imported by any test.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")

from hypothesis import settings  # noqa: E402

settings.register_profile("egotwin", deadline=None, print_blob=True)
settings.load_profile("egotwin")
