"""The commands of `tlx`, one file each, and what experiment scripts share."""
