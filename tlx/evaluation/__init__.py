"""Predictions for whole sets, and metrics."""
