"""Parameter trees: paths, kinds, rules, partition. These modules import neither optax nor linen."""
