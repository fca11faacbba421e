"""`python -m hamail.enrol`: the issuer, started by systemd when somebody connects, gone when nobody has for a while."""

import asyncio
import logging
import os
import socket
import sys
import time
from functools import partial
from pathlib import Path

import click

from hamail.enrol.audit import Audit
from hamail.enrol.issuer import Issuer
from hamail.enrol.names import node_of
from hamail.enrol.server import IDLE_S, Server
from hamail.enrol.tokens import FOLDER, Tokens
from hamail.executor.secrecy import forbid_core_dumps
from hamail.pki.files import PkiError
from hamail.pki.keep import Keep

FIRST_PASSED = 3  # where systemd puts the first socket that it passes on
LOOK_S = 5.0


@click.command()
@click.option("--keep", "folder", type=click.Path(path_type=Path), default=Path("/var/lib/hamail-issuer"))
@click.option("--tokens", type=click.Path(path_type=Path), default=FOLDER)
@click.option("--cluster-file", type=click.Path(path_type=Path), default=Path("/etc/hamail/cluster.toml"))
def main(folder: Path, tokens: Path, cluster_file: Path) -> None:
    """Answers `hamailctl join` and renews the nodes' certificates. Run by hamail-issuer.socket."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    forbid_core_dumps()  # the authority's key will be in its memory
    keep = Keep(folder)
    if os.environ.get("LISTEN_FDS") != "1" or os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise SystemExit("systemd starts this, through hamail-issuer.socket")
    try:
        cluster = keep.state.cluster
        issuer = Issuer(keep, Tokens(tokens), Audit(folder), cluster_file, boottime_ns)
        asyncio.run(_serve(Server(keep, issuer, partial(node_of, cluster=cluster)), socket.socket(fileno=FIRST_PASSED)))
    except PkiError as error:
        raise SystemExit(f"hamail-issuer: {error}") from error


async def _serve(server: Server, passed: socket.socket) -> None:
    passed.setblocking(False)
    serving = asyncio.create_task(server.serve(passed))
    while server.idle_s() < IDLE_S and not serving.done():
        await asyncio.wait((serving,), timeout=LOOK_S)
    if serving.done():
        serving.result()


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    main()
