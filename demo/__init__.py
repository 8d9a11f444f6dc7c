"""The guided run behind `make demo`."""
