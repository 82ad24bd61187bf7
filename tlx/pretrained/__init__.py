"""Loading and saving of published checkpoints: folders, names of tensors, tokenizers and image processors."""
