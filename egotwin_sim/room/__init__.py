"""Procedural rooms: layouts, the MuJoCo world of a layout, goals, and motion synthesis."""
