"""Hugging Face in and out: folders, tensors, names, tokenizers."""
