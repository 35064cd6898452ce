"""A small token issuer for development: tokens, their public key, and whoever asks with the right secret."""
