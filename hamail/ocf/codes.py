"""What an agent may answer (OCF 1.1), and the one exception that carries such an answer."""

from enum import IntEnum


class Code(IntEnum):
    SUCCESS = 0
    GENERIC = 1  # failed; a restart or another node may help
    ARGUMENTS = 2  # the parameters cannot work on this node
    UNIMPLEMENTED = 3
    PERMISSION = 4
    INSTALLED = 5  # software is missing on this node
    CONFIGURED = 6  # the parameters can work nowhere
    NOT_RUNNING = 7
    DEGRADED = 190  # works, but needs attention


class Failure(Exception):
    """An action ended with `code`; `reason` is a sentence for the operator: what, where, what to do."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
