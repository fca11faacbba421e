"""Mutual-TLS links between nodes with typed frames."""

from hamail.transport.certificates import CertificateError, Certificates, Identity
from hamail.transport.links import LinkStatus
from hamail.transport.transport import Transport

__all__ = ["CertificateError", "Certificates", "Identity", "LinkStatus", "Transport"]
