"""Image augmentation on the device: static shapes, drawn per step and `example_id`.

An image is float32 (height, width, 3) in [0, 1]. An operation is a function of one image and of its key or its
parameters; `pipeline.augment` maps the chosen ones over a batch.
"""
