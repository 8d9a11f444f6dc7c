"""The nightly association rules."""
