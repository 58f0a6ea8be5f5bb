"""Learning: batches, optimizers, loop, checkpoints, chat tuning, evaluation."""
