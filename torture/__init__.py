"""Torture: the pipeline is killed, cut off, filled up and lied to; afterwards the mart must equal a plain oracle."""
