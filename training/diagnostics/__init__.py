"""What a training shows of itself: diagnostics, a look inside the network, a profile."""
