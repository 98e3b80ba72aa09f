"""What an integer is: formats, roundings, and the arithmetic of one element.  Knows no networks."""
