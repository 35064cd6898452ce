"""The four services and what they share; never put this folder itself on the import path."""
