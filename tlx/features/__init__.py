"""What a backbone makes of a set, computed once: cut, compute, keep; and the classical fits on top of it."""
