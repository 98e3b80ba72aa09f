"""Programs run on this machine: an obviously right reference, and a fast engine proven equal to it."""
