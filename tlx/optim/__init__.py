"""Optimizers, parameter groups, learning-rate schedules and averages, based on optax."""
