"""What the integer machine does: forms, programs, and the file that holds them."""
