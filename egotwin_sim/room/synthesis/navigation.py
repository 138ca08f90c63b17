"""Ways across a room, around its furniture."""

from __future__ import annotations

import heapq

import numpy as np

from egotwin_sim.room.layout import Footprint, RoomLayout

MARGIN = 0.29  # metres between the body's middle and any obstacle on a planned way
TIGHT_MARGIN = 0.245  # metres, where the usual margin leaves no way
_SAMPLE = 0.06  # metres between the points of a way that are checked
_LEAVE = 0.35  # metres at the start of a way that may be nearer to an obstacle than the margin


def _clear(
    obstacles: tuple[Footprint, ...], start: np.ndarray, stops: np.ndarray, margin: float, lenient: float
) -> np.ndarray:
    """Which straight ways (K,) from start (2,) to stops (K, 2) keep the margin, but for their first metres."""
    length = np.linalg.norm(stops - start, axis=-1)
    count = max(2, int(np.ceil(length.max() / _SAMPLE)) + 1)
    along = np.linspace(0.0, 1.0, count)
    points = start + (stops - start)[:, None] * along[None, :, None]
    distance = np.min([thing.distance(points) for thing in obstacles], axis=0)
    free = distance > margin
    if lenient > 0.0:
        near = along[None] * length[:, None] < lenient
        free |= near & (distance >= distance[:, :1] - 0.02)
    return free.all(axis=1)


def _corners(thing: Footprint, margin: float) -> np.ndarray:
    """Points (K, 2) around an obstacle, a little outside its margin, that a way may bend at."""
    centre = np.array(thing.centre)
    if thing.radius:
        angles = np.arange(8) * np.pi / 4 + 0.2
        radius = (thing.radius + margin + 0.02) / np.cos(np.pi / 8)
        return centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    unit = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    half = np.array(thing.half)
    cos, sin = np.cos(thing.yaw), np.sin(thing.yaw)
    local = unit * (half + margin + 0.02)
    return centre + local @ np.array([[cos, sin], [-sin, cos]])


def find_route(layout: RoomLayout, start: np.ndarray, stops: np.ndarray) -> np.ndarray | None:
    """The shortest way (N, 2) from a point (2,) to any of the points (K, 2) inside the room, or None.

    The points are tried with the usual margin first, then with the tight one.
    """
    start, stops = np.asarray(start, dtype=np.float64), np.atleast_2d(np.asarray(stops, dtype=np.float64))
    for margin in (MARGIN, TIGHT_MARGIN):
        route = _search(layout, start, stops, margin)
        if route is not None:
            return route
    return None


def _search(layout: RoomLayout, start: np.ndarray, stops: np.ndarray, margin: float) -> np.ndarray | None:
    obstacles = layout.furniture_footprints
    bounds = np.array(layout.size) / 2 - margin

    def allowed(points: np.ndarray) -> np.ndarray:
        inside = np.all(np.abs(points) < bounds, axis=-1)
        return inside & (np.min([thing.distance(points) for thing in obstacles], axis=0) > margin)

    stops = stops[allowed(stops)]
    if not len(stops):
        return None
    direct = _clear(obstacles, start, stops, margin, _LEAVE)
    if direct.any():
        choices = stops[direct]
        return np.stack([start, choices[np.argmin(np.linalg.norm(choices - start, axis=-1))]])
    corners = np.concatenate([_corners(thing, margin) for thing in obstacles])
    corners = corners[allowed(corners)]
    nodes = np.concatenate([start[None], corners, stops])
    first_stop = len(nodes) - len(stops)
    cost = np.full(len(nodes), np.inf)
    came = np.full(len(nodes), -1)
    settled = np.zeros(len(nodes), dtype=bool)
    cost[0] = 0.0
    queue = [(0.0, 0)]
    while queue:
        _, at = heapq.heappop(queue)
        if settled[at]:
            continue
        settled[at] = True
        if at >= first_stop:
            way = [at]
            while came[way[-1]] >= 0:
                way.append(int(came[way[-1]]))
            return nodes[way[::-1]]
        others = np.flatnonzero(~settled)
        reachable = others[_clear(obstacles, nodes[at], nodes[others], margin, _LEAVE if at == 0 else 0.0)]
        through = cost[at] + np.linalg.norm(nodes[reachable] - nodes[at], axis=-1)
        for node, value in zip(reachable.tolist(), through.tolist(), strict=True):
            if value < cost[node]:
                cost[node], came[node] = value, at
                heapq.heappush(queue, (value, node))
    return None
