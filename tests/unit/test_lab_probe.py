"""The availability probe: what an outage is, and the real prober against a server that comes and goes."""

import math
import socket
import subprocess
import threading
import time
import uuid

import pytest

from tests.lab import kernel
from tests.lab.probe import Attempt, Probe, load, outage, success_ratio

MS = 1_000_000


def attempts(service, *points):
    return [Attempt(service, (done - 2) * MS, done * MS, ok) for done, ok in points]


def test_outage_is_the_gap_between_successes_around_the_fault():
    seen = attempts("smtp", (0, True), (10, True), (500, False), (810, True), (820, True))
    found = outage(seen, "smtp", fault=15 * MS)
    assert (found.start, found.end, found.ms) == (10 * MS, 810 * MS, 800)


def test_the_longest_gap_counts_also_when_the_service_flaps():
    seen = attempts("smtp", (0, True), (100, True), (700, True), (710, True))
    assert outage(seen, "smtp", fault=5 * MS).ms == 600


def test_gaps_before_the_fault_do_not_count():
    seen = attempts("smtp", (0, True), (900, True), (910, True), (930, True))
    assert outage(seen, "smtp", fault=915 * MS).ms == 20
    assert outage(seen, "smtp", fault=905 * MS).ms == 20


def test_the_order_of_lines_does_not_matter_and_services_are_apart():
    seen = attempts("smtp", (400, True), (0, True)) + attempts("imap", (0, True), (30, True))
    assert outage(seen, "smtp", fault=1 * MS).ms == 400
    assert outage(seen, "imap", fault=1 * MS).ms == 30


def test_never_back_is_endless():
    assert outage(attempts("smtp", (0, True), (900, False)), "smtp", fault=5 * MS).ms == math.inf
    assert outage(attempts("smtp", (0, True), (900, True)), "smtp", fault=5 * MS, until=800 * MS).ms == math.inf


def test_no_service_before_the_fault_is_an_error():
    with pytest.raises(ValueError, match="did not answer"):
        outage(attempts("smtp", (50, True)), "smtp", fault=5 * MS)


def test_a_line_in_the_making_is_left_out(tmp_path):
    file = tmp_path / "probe"
    file.write_text("smtp 1 2 1 \nimap 1 3 0 Connection refused\nsmtp 5 ")
    assert load(file) == [Attempt("smtp", 1, 2, True), Attempt("imap", 1, 3, False, "Connection refused")]


@pytest.fixture
def netns():
    name = f"probe-{uuid.uuid4().hex[:6]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield f"/run/netns/{name}"
    subprocess.run(["ip", "netns", "del", name], check=True)


class Greeter:
    """A banner server in the namespace."""

    def __init__(self, netns, port, greeting):
        with kernel.in_netns(netns):
            self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", port))
        self.sock.listen(128)
        self.greeting = greeting
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                peer, _ = self.sock.accept()
            except OSError:
                return
            try:
                peer.sendall(self.greeting)
            except OSError:
                pass
            peer.close()

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join()


@pytest.mark.root
def test_the_prober_measures_a_real_outage(netns, tmp_path):
    smtp, imap = Greeter(netns, 25, b"220 mail.test\r\n"), Greeter(netns, 143, b"* OK ready\r\n")
    targets = {"smtp": ("127.0.0.1", 25), "imap": ("127.0.0.1", 143)}
    with Probe(netns, targets, tmp_path / "probe") as probe:
        assert probe.wait_until_up(("smtp", "imap"), 5)
        time.sleep(0.3)
        down = time.monotonic_ns()
        smtp.close()
        time.sleep(0.4)
        smtp = Greeter(netns, 25, b"220 mail.test\r\n")
        back = time.monotonic_ns()
        time.sleep(0.3)
        seen = probe.stop()
    measured = outage(seen, "smtp", down).ms
    assert abs(measured - (back - down) / MS) < 60
    assert outage(seen, "imap", down).ms < 150
    rate = len([a for a in seen if a.service == "imap"]) / ((seen[-1].done - seen[0].done) / 1e9)
    assert 60 < rate < 110  # one every 10 ms, each service
    smtp.close()
    imap.close()


@pytest.mark.root
def test_a_wrong_or_silent_answer_is_no_success(netns, tmp_path):
    wrong = Greeter(netns, 25, b"421 too busy\r\n")
    with kernel.in_netns(netns):
        silent = socket.socket()
    silent.bind(("127.0.0.1", 143))
    silent.listen(1000)
    with Probe(netns, {"smtp": ("127.0.0.1", 25), "imap": ("127.0.0.1", 143)}, tmp_path / "probe") as probe:
        time.sleep(1.3)
        seen = probe.stop()
    assert success_ratio(seen, "smtp") == success_ratio(seen, "imap") == 0
    assert {a.why for a in seen} == {"wrong greeting", "timeout"}
    wrong.close()
    silent.close()
