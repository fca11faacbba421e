"""A hash over everything that happens in a world, to tell whether two runs were the same."""

import hashlib
import os
import sys


class UnpinnedHash(RuntimeError):
    """Sets of words iterate differently in every process, so runs cannot be compared."""


class Trace:
    def __init__(self) -> None:
        """Raises UnpinnedHash."""
        if sys.flags.hash_randomization and os.environ.get("PYTHONHASHSEED", "random") == "random":
            raise UnpinnedHash(
                "start Python with PYTHONHASHSEED=0: without it no run can be repeated in another process"
            )
        self.events = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, now_ns: int, *what: object) -> None:
        self.events += 1
        self._hash.update(repr((now_ns, *what)).encode())

    def digest(self) -> str:
        return self._hash.hexdigest()
