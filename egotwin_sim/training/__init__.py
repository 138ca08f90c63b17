"""Training: one trainer, one module per stage in `egotwin_sim.training.stages`."""
