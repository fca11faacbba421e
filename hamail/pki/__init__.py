"""The cluster's certificate authority and node certificates."""
