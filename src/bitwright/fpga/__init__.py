"""An open deep-learning processor: its configuration, instructions, compiler, models and hardware."""
