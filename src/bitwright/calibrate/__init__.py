"""Calibration: what a network's tensors hold, and the integer formats that follow from it."""
