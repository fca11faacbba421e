"""A name server for tests: a few records, served by dnspython over UDP and TCP on loopback. Nothing else is asked."""

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone

UDP_BYTES = 512


class Server(socketserver.ThreadingUDPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, zones: list[str], authentic: bool, refuse: tuple[str, ...], deaf: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        # one zone for all names, so that a test needs a few lines only
        self.zone = dns.zone.from_text("\n".join(zones), origin=".", relativize=False, check_origin=False)
        self.authentic, self.refuse, self.deaf = authentic, refuse, deaf
        self.asked: list[str] = []


def answer(server: Server, wire: bytes) -> dns.message.Message:
    query = dns.message.from_wire(wire)
    question = query.question[0]
    server.asked.append(f"{question.name} {dns.rdatatype.to_text(question.rdtype)}")
    reply = dns.message.make_response(query, recursion_available=True)
    if server.authentic:
        reply.flags |= dns.flags.AD
    name = question.name
    if any(str(name).startswith(word) for word in server.refuse):
        reply.set_rcode(dns.rcode.SERVFAIL)
        return reply
    for _ in range(4):  # aliases
        alias = server.zone.get_rdataset(name, dns.rdatatype.CNAME)
        if alias is None:
            break
        reply.answer.append(dns.rrset.from_rdata_list(name, alias.ttl, list(alias)))
        name = alias[0].target
    found = server.zone.get_rdataset(name, question.rdtype)
    if found is not None:
        reply.answer.append(dns.rrset.from_rdata_list(name, found.ttl, list(found)))
    elif not reply.answer and server.zone.get_node(name) is None:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    return reply


class Handler(socketserver.DatagramRequestHandler):
    server: Server  # type: ignore[assignment]

    def handle(self) -> None:
        if self.server.deaf:
            return
        reply = answer(self.server, self.packet)
        wire = reply.to_wire()
        if len(wire) > UDP_BYTES:  # the resolver asks again over TCP
            reply.answer.clear()
            reply.flags |= dns.flags.TC
            wire = reply.to_wire()
        self.wfile.write(wire)


class TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    partner: Server


class TcpHandler(socketserver.StreamRequestHandler):
    server: TcpServer  # type: ignore[assignment]

    def handle(self) -> None:
        (length,) = struct.unpack("!H", self.rfile.read(2))
        wire = answer(self.server.partner, self.rfile.read(length)).to_wire()
        self.wfile.write(struct.pack("!H", len(wire)) + wire)


@contextmanager
def serving(
    *records: str, authentic: bool = True, refuse: tuple[str, ...] = (), deaf: bool = False
) -> Iterator[tuple[int, Server]]:
    """Yields the port on 127.0.0.1, and the server. `records` in master file form, with full names."""
    server = Server(list(records), authentic, refuse, deaf)
    port = server.server_address[1]
    tcp = TcpServer(("127.0.0.1", port), TcpHandler)
    tcp.partner = server
    threads = [threading.Thread(target=s.serve_forever, args=(0.02,), daemon=True) for s in (server, tcp)]
    for thread in threads:
        thread.start()
    try:
        yield port, server
    finally:
        for s in (server, tcp):
            s.shutdown()
            s.server_close()
