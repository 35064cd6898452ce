"""Tells each buyer what becomes of their orders."""
