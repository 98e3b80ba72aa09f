"""Where accuracy is lost, why, and what would bring it back."""
