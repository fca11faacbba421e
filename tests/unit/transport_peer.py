"""One node in a process of its own: `transport_peer.py PKI ME HOST PEER HOST`. Prints what it hears, as JSON lines."""

import asyncio
import json
import sys
import time
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hamail.model.messages import LeaseRequest
from hamail.transport import Certificates, Transport

PORT = 7461
PERIOD_S = 0.05


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def say(**what):
    print(json.dumps(what | {"at_ns": now_ns()}), flush=True)


async def main(pki, me, host, peer, peer_host):
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    transport = Transport(
        me=me,
        cluster="mail",
        peers={peer: (peer_host, PORT)},
        bind=(host, PORT),
        certificates=Certificates.of(Path(pki) / me),
        on_message=lambda _, m: say(heard=m.nonce),
        on_link=lambda _, up, why: say(up=up, why=why),
        now_ns=now_ns,
    )
    await transport.start()
    say(started=True)
    nonce = 0
    while True:
        nonce += 1
        transport.send(peer, LeaseRequest(group="mail", epoch=1, nonce=nonce))
        await asyncio.sleep(PERIOD_S)


asyncio.run(main(*sys.argv[1:]))
