"""The processor in Amaranth."""
