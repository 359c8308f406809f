"""The networks and the forest: how each is built, trained on a cluster, saved, loaded and asked."""
