"""Mutual-TLS links between nodes that carry typed frames."""
