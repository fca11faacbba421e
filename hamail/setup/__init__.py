"""From a bare machine to a node: what `hamailctl init` and `join` look at, propose and write."""
