"""This project and its peers side by side, on the same rows and cores."""
