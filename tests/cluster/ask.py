"""Asks a node's hamaild from outside, through the node's own control socket: milliseconds instead of a hamailctl."""

import http.client
import json
import socket
from typing import Any

from tests.lab.node import Node

SOCKET = "run/hamail/control.sock"
TIMEOUT_S = 1.0  # a frozen node accepts the connection and never answers


class NoAnswer(Exception):
    """The node is off, or its hamaild does not answer."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def ask(node: Node, path: str) -> dict[str, Any]:
    """GET `path` below /v1. Raises NoAnswer."""
    init = node.init()
    if not init:
        raise NoAnswer(f"{node.name} is off")
    connection = _Connection(f"/proc/{init}/root/{SOCKET}")
    try:
        connection.request("GET", f"/v1/{path}")
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer(f"{node.name}: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise NoAnswer(f"{node.name}: {body}")
    return body
