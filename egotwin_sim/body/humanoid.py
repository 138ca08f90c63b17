"""The MuJoCo humanoid of a skeleton: free joint, three hinges per joint, limbs that the head camera sees."""

from __future__ import annotations

import mujoco
import numpy as np

from egotwin_sim.motion.skeleton import Skeleton

HAND_LENGTH = 0.18  # metres from the wrist to the fingertips, for a stature of 1.75 m
PALM_DISTANCE = 0.09  # metres from the wrist to the middle of the palm, the point that touches and grips
HEAD_CAMERA = "head_camera"
HEAD_GROUP = 4  # geom group of the head's own geoms, which the head camera does not draw
FOVY = 90.0  # degrees

# Maps head coordinates (x forward, y left, z up) to MuJoCo's camera (looks along -z, y up).
CAMERA_QUAT_WXYZ = (0.5, 0.5, -0.5, -0.5)

SKIN = (0.93, 0.65, 0.51)  # hue 20 deg, saturation 0.45
SHIRT = (0.62, 0.66, 0.72)
TROUSERS = (0.33, 0.35, 0.40)
SHOES = (0.20, 0.20, 0.21)
HAIR = (0.25, 0.20, 0.17)

# Flexion comes first, so that the middle angle, the one with a singularity at 90 degrees, stays small.
_AXES = {
    "hip": "yxz", "knee": "yxz", "ankle": "yxz", "foot": "yxz", "spine": "yxz", "neck": "yxz", "head": "yxz",
    "collar": "xzy", "shoulder": "xzy", "elbow": "zxy", "wrist": "zxy",
}  # fmt: skip

# Degrees (low, high) in the order of the axes above, for the left side and the middle of the body. Rounded-up ranges of
# healthy adults (American Academy of Orthopaedic Surgeons, 1965), widened where one hinge stands for several.
_LIMITS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "hip": ((-135, 45), (-45, 70), (-70, 70)),
    "knee": ((-10, 160), (-20, 20), (-45, 45)),
    "ankle": ((-50, 65), (-40, 40), (-45, 45)),
    "foot": ((-70, 50), (-25, 25), (-25, 25)),
    "spine": ((-40, 55), (-40, 40), (-45, 45)),
    "neck": ((-60, 70), (-50, 50), (-85, 85)),
    "head": ((-60, 70), (-50, 50), (-85, 85)),
    "collar": ((-35, 60), (-50, 50), (-60, 60)),
    "shoulder": ((-180, 180), (-150, 80), (-180, 180)),
    "elbow": ((-165, 15), (-90, 90), (-140, 140)),
    "wrist": ((-95, 95), (-95, 95), (-110, 110)),
}


def _kind(joint: str) -> str:
    return joint.removeprefix("left_").removeprefix("right_").rstrip("123")


def hinge_axes(joint: str) -> str:
    """Axes of a joint's three hinges, outermost first, such as "yxz"."""
    return _AXES[_kind(joint)]


def hinge_names(joint: str) -> tuple[str, str, str]:
    """Names of a joint's three MuJoCo hinges, outermost first, such as "left_knee_y"."""
    x, y, z = (f"{joint}_{axis}" for axis in hinge_axes(joint))
    return x, y, z


def hinge_limits(joint: str) -> np.ndarray:
    """(3, 2) radians, low and high of each hinge of `hinge_names`; the right side mirrors the left."""
    limits = np.deg2rad(np.array(_LIMITS[_kind(joint)], dtype=np.float64))
    if joint.startswith("right_"):
        for i, axis in enumerate(hinge_axes(joint)):
            if axis != "y":
                limits[i] = -limits[i, ::-1]
    return limits


class _Limbs:
    """Adds the geoms of one body after another; names are `label/part`, and the label is the segmentation's name."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def _add(self, body: mujoco.MjsBody, name: str, rgb: tuple[float, float, float], **kwargs: object) -> None:
        # Body geoms meet the world, not one another: neighbouring limbs overlap by design.
        body.add_geom(name=name, rgba=[*rgb, 1.0], contype=1, conaffinity=0, density=1000.0, **kwargs)

    def capsule(
        self,
        body: mujoco.MjsBody,
        name: str,
        rgb: tuple[float, float, float],
        start: np.ndarray,
        stop: np.ndarray,
        radius: float,
        group: int = 0,
    ) -> None:
        """A capsule between two points in the body's frame, metres; the radius is for a stature of 1.75 m."""
        self._add(
            body,
            name,
            rgb,
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=[*np.asarray(start, dtype=float), *np.asarray(stop, dtype=float)],
            size=[radius * self.scale, 0, 0],
            group=group,
        )

    def ellipsoid(
        self,
        body: mujoco.MjsBody,
        name: str,
        rgb: tuple[float, float, float],
        centre: tuple[float, float, float],
        half: tuple[float, float, float],
        group: int = 0,
    ) -> None:
        """An ellipsoid, metres for a stature of 1.75 m."""
        self._add(
            body,
            name,
            rgb,
            type=mujoco.mjtGeom.mjGEOM_ELLIPSOID,
            pos=np.array(centre) * self.scale,
            size=np.array(half) * self.scale,
            group=group,
        )

    def box(
        self,
        body: mujoco.MjsBody,
        name: str,
        rgb: tuple[float, float, float],
        centre: tuple[float, float, float],
        half: tuple[float, float, float],
    ) -> None:
        """A box, metres for a stature of 1.75 m."""
        self._add(
            body,
            name,
            rgb,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=np.array(centre) * self.scale,
            size=np.array(half) * self.scale,
        )


def _add_flesh(skeleton: Skeleton, bodies: dict[str, mujoco.MjsBody], scale: float) -> None:
    limbs = _Limbs(scale)
    offset = {name: skeleton.offsets[i] for i, name in enumerate(skeleton.names)}
    limbs.capsule(
        bodies["pelvis"], "torso/pelvis", TROUSERS, offset["right_hip"] * 0.9, offset["left_hip"] * 0.9, 0.105
    )
    limbs.ellipsoid(bodies["spine1"], "torso/belly", SHIRT, (0.0, 0.0, 0.02), (0.105, 0.155, 0.12))
    limbs.ellipsoid(bodies["spine2"], "torso/waist", SHIRT, (0.0, 0.0, 0.04), (0.110, 0.160, 0.13))
    limbs.ellipsoid(bodies["spine3"], "torso/chest", SHIRT, (0.0, 0.0, 0.05), (0.110, 0.180, 0.13))
    limbs.capsule(bodies["neck"], "head/neck", SKIN, np.zeros(3), offset["head"], 0.05, group=HEAD_GROUP)
    limbs.ellipsoid(bodies["head"], "head/face", SKIN, (0.015, 0.0, 0.07), (0.080, 0.072, 0.115), HEAD_GROUP)
    limbs.ellipsoid(bodies["head"], "head/hair", HAIR, (-0.012, 0.0, 0.10), (0.088, 0.080, 0.105), HEAD_GROUP)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        def joint(name: str, side: str = side) -> str:
            return f"{side}_{name}"

        outer = bodies[joint("collar")], f"{side}_arm/collar", SHIRT, np.zeros(3), offset[joint("shoulder")]
        limbs.capsule(*outer, 0.058)
        for part, child, radius in (("shoulder", "elbow", 0.050), ("elbow", "wrist", 0.041)):
            limbs.capsule(
                bodies[joint(part)], f"{side}_arm/{part}", SHIRT, np.zeros(3), offset[joint(child)], radius
            )
        hand = bodies[joint("wrist")]
        limbs.ellipsoid(hand, f"{side}_hand/palm", SKIN, (0.0, sign * 0.052, 0.0), (0.046, 0.062, 0.024))
        for i, (x, reach) in enumerate(((0.029, 0.165), (0.010, 0.180), (-0.009, 0.172), (-0.027, 0.150))):
            tips = np.array([[x, sign * 0.09, 0.0], [x * 1.15, sign * (reach - 0.011), 0.0]]) * scale
            limbs.capsule(hand, f"{side}_hand/finger{i}", SKIN, tips[0], tips[1], 0.0105)
        thumb = np.array([[0.035, sign * 0.03, -0.005], [0.075, sign * 0.085, -0.015]]) * scale
        limbs.capsule(hand, f"{side}_hand/thumb", SKIN, thumb[0], thumb[1], 0.0125)
        hand.add_site(
            name=f"{side}_palm", pos=[0.0, sign * PALM_DISTANCE * scale, 0.0], size=[0.01] * 3, group=HEAD_GROUP
        )
        for part, child, radius in (("hip", "knee", 0.075), ("knee", "ankle", 0.055)):
            limbs.capsule(
                bodies[joint(part)], f"{side}_leg/{part}", TROUSERS, np.zeros(3), offset[joint(child)], radius
            )
        sole = -skeleton.foot_height / scale
        limbs.box(
            bodies[joint("ankle")], f"{side}_leg/foot", SHOES, (0.055, 0.0, sole + 0.04), (0.105, 0.048, 0.04)
        )
        # The toes' origin lies at the ball of the foot, whose height the sole is measured from.
        toe = sole - float(offset[joint("foot")][2]) / scale
        limbs.box(bodies[joint("foot")], f"{side}_leg/toes", SHOES, (0.04, 0.0, toe + 0.025), (0.045, 0.046, 0.025))


def build_humanoid(skeleton: Skeleton | None = None, spec: mujoco.MjSpec | None = None) -> mujoco.MjSpec:
    """Adds the humanoid to a MuJoCo spec.

    Each skeleton joint becomes a body of the same name. The root carries the free joint `root`, every other body three
    hinges (`hinge_names`). The sites `left_palm` and `right_palm` mark the points that touch and grip, and the camera
    `head_camera` sits at the head frame's origin between the eyes, looking along its x axis.

    Args:
        skeleton: the body; default `Skeleton.default()`.
        spec: the spec to extend; default a new, empty one. Its angles become radians.

    Returns:
        The spec that holds the humanoid.
    """
    skeleton = Skeleton.default() if skeleton is None else skeleton
    spec = mujoco.MjSpec() if spec is None else spec
    spec.compiler.degree = False
    spec.compiler.autolimits = True
    scale = skeleton.rest_root_height / Skeleton.default().rest_root_height
    bodies: dict[str, mujoco.MjsBody] = {}
    for i, name in enumerate(skeleton.names):
        parent = skeleton.parents[i]
        above = spec.worldbody if parent < 0 else bodies[skeleton.names[parent]]
        if parent < 0:
            bodies[name] = above.add_body(name=name, pos=[0.0, 0.0, skeleton.rest_root_height])
            bodies[name].add_freejoint(name="root")
            continue
        bodies[name] = above.add_body(name=name, pos=skeleton.offsets[i])
        for hinge, axis, limits in zip(hinge_names(name), hinge_axes(name), hinge_limits(name), strict=True):
            bodies[name].add_joint(
                name=hinge,
                type=mujoco.mjtJoint.mjJNT_HINGE,
                axis=[float(axis == a) for a in "xyz"],
                range=limits,
                armature=0.01,
                damping=1.0,
            )
    _add_flesh(skeleton, bodies, scale)
    bodies["head"].add_camera(name=HEAD_CAMERA, pos=skeleton.head_offset, quat=CAMERA_QUAT_WXYZ, fovy=FOVY)
    return spec
