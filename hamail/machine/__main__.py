"""`python -m hamail.machine`: the configured groups on standard input, MachineFacts on standard output, in msgpack."""

import sys

import msgspec

from hamail.machine.look import look
from hamail.model.spec import GroupSpec

QUESTION_BYTES_MAX = 1 << 20


def main() -> None:
    groups = msgspec.msgpack.decode(sys.stdin.buffer.read(QUESTION_BYTES_MAX), type=tuple[GroupSpec, ...])
    sys.stdout.buffer.write(msgspec.msgpack.encode(look(groups)))


if __name__ == "__main__":
    main()
