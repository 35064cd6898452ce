"""Seating plans: read from pretix's published JSON, compiled once, kept by digest, laid out for a sale."""
