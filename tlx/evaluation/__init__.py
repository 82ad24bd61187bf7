"""Predictions over whole sets, metrics."""
