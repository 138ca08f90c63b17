"""Which parts of a robot stand on the floor, found from its shape, and the points of their soles."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from egotwin_sim.errors import UserError

SOLE_BAND = 0.015  # metres above the lowest point within which a geom counts as part of a sole
PLANTED = 0.01  # metres above the floor below which a point of a sole counts as touching


@dataclass(frozen=True, eq=False)
class Foot:
    """One foot: a body of the leg, and what hangs from it.

    Attributes:
        bodies: ids in the model, the one nearest to the root first.
        body_of_point: (P,) id of the body that carries each point of the sole.
        point: (P, 3) metres, in that body's frame; the middle of a sphere.
        radius: (P,) metres of that sphere, 0 for a corner.
    """

    bodies: tuple[int, ...]
    body_of_point: np.ndarray
    point: np.ndarray
    radius: np.ndarray

    def points(self, data: mujoco.MjData) -> np.ndarray:
        """World positions (P, 3) of the lowest point of each sphere, metres."""
        rotation = data.xmat[self.body_of_point].reshape(-1, 3, 3)
        world = data.xpos[self.body_of_point] + np.einsum("pij,pj->pi", rotation, self.point)
        world[:, 2] -= self.radius
        return world


def _spheres(model: mujoco.MjModel, geom: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 3) and radii (P,) in the geom's frame whose hull is the geom, or encloses it."""
    kind, size = int(model.geom_type[geom]), model.geom_size[geom]
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    types = mujoco.mjtGeom
    if kind == types.mjGEOM_SPHERE:
        return np.zeros((1, 3)), np.array([size[0]])
    if kind == types.mjGEOM_CAPSULE:
        return np.array([[0.0, 0.0, -size[1]], [0.0, 0.0, size[1]]]), np.full(2, size[0])
    if kind == types.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        vertices = model.mesh_vert[first : first + count].astype(np.float64)
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        return (low + high) / 2 + signs * (high - low) / 2, np.zeros(8)
    half = np.array([size[0], size[0], size[1]]) if kind == types.mjGEOM_CYLINDER else size
    return signs * half, np.zeros(8)


def _sole_points(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A geom's points in its body's frame, their radii, and their heights in the world."""
    centres, radius = _spheres(model, geom)
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
    local = model.geom_pos[geom] + centres @ rotation.reshape(3, 3).T
    body = model.geom_bodyid[geom]
    world = data.xpos[body] + local @ data.xmat[body].reshape(3, 3).T
    return local, radius, world[:, 2] - radius


def find_feet(model: mujoco.MjModel, qpos: np.ndarray, root: int) -> tuple[Foot, ...]:
    """The feet of a robot: what is lowest when it stands.

    Args:
        model: the robot, possibly within a scene.
        qpos: (nq,), standing.
        root: id of the root body.

    Raises:
        UserError: no geom of the robot can touch anything.
    """
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    geoms = [
        g
        for g in range(model.ngeom)
        if model.body_rootid[model.geom_bodyid[g]] == root and (model.geom_contype[g] or model.geom_conaffinity[g])
    ]
    if not geoms:
        raise UserError("the robot has no geom that touches anything; give its feet geoms with contype 1")
    points = {g: _sole_points(model, data, g) for g in geoms}
    lowest = min(float(height.min()) for _, _, height in points.values())
    soles = [g for g in geoms if points[g][2].min() < lowest + SOLE_BAND]
    low = {int(model.geom_bodyid[g]) for g in soles}
    feet = []
    for top in sorted({_top(model, body, low) for body in low}):
        own = [g for g in soles if _top(model, int(model.geom_bodyid[g]), low) == top]
        bodies, local, radius = [], [], []
        for g in own:
            near = points[g][2] < lowest + SOLE_BAND
            bodies += [int(model.geom_bodyid[g])] * int(near.sum())
            local.append(points[g][0][near])
            radius.append(points[g][1][near])
        parts = tuple(sorted(set(bodies)))
        feet.append(Foot(parts, np.array(bodies), np.concatenate(local), np.concatenate(radius)))
    return tuple(feet)


def _top(model: mujoco.MjModel, body: int, members: set[int]) -> int:
    """The ancestor nearest to the root among `members`, or the body itself."""
    top = body
    while body > 0:
        if body in members:
            top = body
        body = int(model.body_parentid[body])
    return top
