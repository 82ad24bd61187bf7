"""Backbones, blocks and heads as linen modules; each family's facts as data. No I/O."""
