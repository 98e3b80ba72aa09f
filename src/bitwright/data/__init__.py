"""Where samples come from, and the input contract that says how they become tensors."""
