"""What a text, an image or another kind of input is, from a table's column to the model: one file a modality."""
