"""Predictions to figures, charts and reports: NumPy, pandas and Matplotlib, without Spark or TensorFlow."""
