"""A Java to run on, and the jars to run with."""
