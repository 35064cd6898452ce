"""The audit: judges invariants I1 to I8 and I11 by what the stores, the streams and the provider hold."""
