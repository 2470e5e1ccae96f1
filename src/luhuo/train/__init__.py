"""Training: one loop, objectives that say what the loss of a batch is, optimisers, schedules, checkpoints."""
