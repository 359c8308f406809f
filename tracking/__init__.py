"""Logging of runs to MLflow and TensorBoard."""
