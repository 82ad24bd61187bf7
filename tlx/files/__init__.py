"""Files that come from outside, opened and read so that nothing in them can do harm."""
