"""The search for hyperparameters: its study and its trials."""
