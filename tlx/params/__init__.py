"""Parameter trees as trees: paths, kinds, rules, partition. Knows neither optax nor linen."""
