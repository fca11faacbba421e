"""The cluster's own certificate authority and the certificates of its nodes."""

from hamail.pki.authority import PkiError, create_authority, issue
from hamail.pki.description import Description, describe

__all__ = ["Description", "PkiError", "create_authority", "describe", "issue"]
