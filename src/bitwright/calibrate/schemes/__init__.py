"""One file per scheme; a new file here is a new scheme."""
