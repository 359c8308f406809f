"""Raw files to one table of images, and from there to features. Spark only: nothing here imports TensorFlow."""
