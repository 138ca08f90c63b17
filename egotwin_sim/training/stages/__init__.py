"""The training stages: each module has `run(config, data, out, *, resume, steps, init)`."""
