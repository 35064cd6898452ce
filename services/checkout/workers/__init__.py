"""Checkout's background loops, one file each."""
