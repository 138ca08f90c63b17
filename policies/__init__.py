"""Policies that act in the environments."""
