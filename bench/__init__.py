"""Side-by-side measurements: each in one run on one machine, so that the ratios mean something."""
