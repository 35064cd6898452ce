"""A sale to look at: the whole system, a modest crowd, and a live view in the terminal."""
