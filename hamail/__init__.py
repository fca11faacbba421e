"""hamail: failover for pairs of mail servers. See ARCHITECTURE.md for the map."""

__version__ = "0.1.0"
