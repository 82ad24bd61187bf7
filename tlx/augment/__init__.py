"""Image augmentation on the device, with static shapes; random numbers depend on the step and `example_id`.

An image is float32 (height, width, 3) in [0, 1]. An operation is a function of one image and a key, or of one image and
its parameters. `pipeline.augment` maps the configured operations over a batch.
"""
