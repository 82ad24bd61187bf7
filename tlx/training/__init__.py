"""THE loop: state, step, feed, checkpoint, writers."""
