"""What would follow at once if a maintenance ended now."""

from msgspec import Struct


class Leaving(Struct, frozen=True, kw_only=True):
    sentences: tuple[str, ...]
    acts: bool  # something would be started, stopped or fenced
