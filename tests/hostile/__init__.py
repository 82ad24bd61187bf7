"""Files made to do harm, given to the commands that a user types: `python -m tests.hostile.run`."""
