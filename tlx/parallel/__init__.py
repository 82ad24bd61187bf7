"""Parallel training over several devices and processes."""
