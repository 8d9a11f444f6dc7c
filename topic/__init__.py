"""The topic: what the broker holds, and which offsets of it."""
