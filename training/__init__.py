"""How a network is trained by Horovod's processes on a Spark cluster."""
