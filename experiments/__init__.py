"""Experiments: their configuration, the command line, the Spark session, and the run directories they produce."""
