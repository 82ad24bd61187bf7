"""The training loop: state, step, batches, checkpoints, metrics."""
