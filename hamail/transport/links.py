"""What can be told about the links to one peer."""

from msgspec import Struct


class LinkStatus(Struct, frozen=True, kw_only=True):
    """Counts are of messages since this process started; times are CLOCK_BOOTTIME nanoseconds."""

    up: bool  # we can send
    why: str  # "connected", or why not
    since_ns: int  # of `up`
    sent: int
    queued_bytes: int
    hears: bool  # the peer has a connection to us
    hears_since_ns: int
    received: int
    last_heard_ns: int  # 0: never
    certificate_expires: str = ""  # of the peer, as OpenSSL prints it; empty until it has connected
