"""The commands: each turns its options into calls of the api, and the answer into text or JSON."""
