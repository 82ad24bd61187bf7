"""Modalities: how texts, images or other inputs are read from a table and encoded for the model; one file each."""
