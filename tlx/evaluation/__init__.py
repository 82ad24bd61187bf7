"""Predictions over whole sets, metrics, classical baselines."""
