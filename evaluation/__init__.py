"""Metrics, charts and reports, computed with NumPy, pandas and Matplotlib, without Spark or TensorFlow."""
