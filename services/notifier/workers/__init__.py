"""The background loops of the notifier, one per file."""
