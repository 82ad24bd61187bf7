"""Functions that use trained runs: predictions, metrics, features, interpolation."""
