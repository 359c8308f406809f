"""The cluster a network is trained on: its hosts, Horovod's processes and their output."""
