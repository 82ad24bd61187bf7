"""Backbones, blocks and heads as linen modules, and the config of each model family. No I/O."""
