"""Thin faces for people who come from other tools: their words, our calls."""
