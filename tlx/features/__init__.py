"""Features of a frozen backbone: specify, compute and store them, and fit classifiers to them."""
