"""hamaild: puts consensus, transport, core and control together."""
