"""The integer meaning of every operator, declared once: one file per family."""
