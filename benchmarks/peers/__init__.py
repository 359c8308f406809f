"""Peers of this project, used as their documentation describes."""
