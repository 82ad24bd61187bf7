"""Files of weights in the formats of safetensors, PyTorch and Flax, read one tensor at a time; no code is executed."""
