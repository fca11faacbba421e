"""What the executor and its agent server say to each other over a SOCK_SEQPACKET pair.

A `Spawn` carries three descriptors (stdin, stdout, stderr); a `Spawned` carries the pidfd of the new process, so that
the executor can signal it without any race on reused process ids.
"""

from typing import TypeAlias

import msgspec
from msgspec import Struct

MESSAGE_BYTES_MAX = 128 << 10


class Spawn(Struct, frozen=True, kw_only=True, tag="spawn"):
    id: int
    path: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    join_files: tuple[str, ...]


class Spawned(Struct, frozen=True, kw_only=True, tag="spawned"):
    id: int
    pid: int


class SpawnFailed(Struct, frozen=True, kw_only=True, tag="spawn_failed"):
    id: int
    why: str


class Exited(Struct, frozen=True, kw_only=True, tag="exited"):
    id: int
    exit_code: int  # negative: killed by that signal


Reply: TypeAlias = Spawned | SpawnFailed | Exited

encode = msgspec.msgpack.Encoder().encode
decode_spawn = msgspec.msgpack.Decoder(Spawn).decode
_replies: msgspec.msgpack.Decoder[Spawned | SpawnFailed | Exited] = msgspec.msgpack.Decoder(
    Spawned | SpawnFailed | Exited
)
decode_reply = _replies.decode
