"""How a machine becomes a node: tokens, the issuer that answers them, and whoever asks it."""
