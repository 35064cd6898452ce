"""Units and promises: what is free, promised, held and sold."""
