"""What reads the run directories of trained runs: predictions, metrics, features, interpolation."""
