"""The `egotwin` command: the only part that may import every other."""
