"""Files of weights: safetensors, PyTorch's and Flax's, read tensor by tensor without running anything they hold."""
