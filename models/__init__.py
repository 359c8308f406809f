"""The networks and the random forest: building, training, saving, loading and prediction."""
