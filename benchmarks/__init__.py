"""Benchmarks of this project and its peers on the same rows and cores."""
