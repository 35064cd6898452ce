"""The queue's background loops, one file each."""
