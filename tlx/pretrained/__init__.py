"""Loads and saves Hugging Face checkpoints: folders, names of tensors, tokenizers and image processors."""
