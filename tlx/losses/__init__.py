"""Losses as pure functions of arrays: `(predictions, targets, weight) -> (total, count)`."""
