"""Data: sources, splits, the plan of batches. Imports neither jax nor flax nor optax."""
