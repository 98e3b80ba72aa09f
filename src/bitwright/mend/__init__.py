"""Repairs: what brings accuracy back inside the target's own integer rules."""
