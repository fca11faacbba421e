"""The control API over a real unix socket, with the kernel's word on who connects."""

import http.client
import json
import os
import pwd
import socket
import sys
import threading
import time
import traceback
from pathlib import Path

import msgspec
import pytest
from control_fake import ONE_MOVE, FakeBackend, serving

from hamail.control import client as cl
from hamail.control import server as srv
from hamail.control.api import BODY_BYTES_MAX
from hamail.control.port import NotProposed
from hamail.model import commands as c
from hamail.model.state import Event, Phase
from hamail.monitoring import metrics

HAMAIL_GID = 64_123  # stands for the group hamail
NOBODY = 65_534


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.sock"


@pytest.fixture
def client(backend, path):
    with serving(backend, path):
        yield cl.ControlClient(path, timeout_ms=5000)


def raw(path: Path, method: str, url: str, body: bytes | None = None, headers=None):
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request(method, url, body=body, headers=headers or {})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, answer


# --- looking ----------------------------------------------------------------------------------------------------------


def test_status_and_state_arrive_typed(client, backend):
    assert client.status() == backend.status()
    assert client.state() == backend.state()
    assert client.timings().timings == backend.timings()
    assert client.config().config.revision == 3
    assert client.why("mail").sentences == backend.why("mail")


def test_history_lists_moves_and_finds_one(client):
    assert client.history().moves == (ONE_MOVE,)
    assert client.move(17).move == ONE_MOVE
    with pytest.raises(cl.Refused, match="no move 99 in the history"):
        client.move(99)


def test_events_after_an_index(client):
    page = client.events(after=16)
    assert [event.index for event in page.events] == [18, 20]
    assert (page.next, page.complete) == (20, True)


def test_events_say_when_older_ones_are_gone(client, backend):
    many = tuple(Event(index=i, at_ms=0, kind="x", sentence="s") for i in range(500, 1500))
    backend.st = msgspec.structs.replace(backend.st, events=many, applied=1499)
    assert not client.events(after=10).complete
    assert client.events(after=500).complete


def test_long_poll_returns_with_the_event_and_not_before(client, backend):
    got = []

    def wait():
        begun = time.monotonic()
        page = client.events(after=20, wait_ms=5000)
        got.append((time.monotonic() - begun, page))

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.2)
    client.clear("mail", "tested")
    waiter.join(3)
    took_s, page = got[0]
    assert 0.15 < took_s < 2
    assert [event.sentence for event in page.events] == ["failures forgotten"]


def test_long_poll_without_event_ends_in_time(client):
    begun = time.monotonic()
    assert client.events(after=20, wait_ms=150).events == ()
    assert 0.14 < time.monotonic() - begun < 2


def test_backend_that_ends_does_not_make_the_server_spin(client, backend):
    calls = []

    async def at_once(after, timeout_ms):
        calls.append(after)
        return backend.st.applied

    backend.wait_applied = at_once
    waiter = threading.Thread(target=lambda: client.events(after=20, wait_ms=400))
    waiter.start()
    time.sleep(0.1)
    begun = time.monotonic()
    assert client.status().node == "n1" and time.monotonic() - begun < 0.2
    waiter.join(3)
    assert len(calls) < 15


def test_too_many_long_polls_are_turned_away(backend, path, monkeypatch):
    monkeypatch.setattr("hamail.control.views.WAITERS_MAX", 1)
    with serving(backend, path):
        client = cl.ControlClient(path)
        first = threading.Thread(target=lambda: client.events(after=20, wait_ms=1000))
        first.start()
        time.sleep(0.2)
        with pytest.raises(cl.SurelyNotDone, match="1 clients wait for events already"):
            client.events(after=20, wait_ms=1000)
        first.join(3)


def test_active_is_for_load_balancers(client, backend, path):
    assert raw(path, "GET", "/v1/active/mail")[0] == 200
    backend.node = "n2"
    status, body = raw(path, "GET", "/v1/active/mail")
    assert status == 503 and json.loads(body)["owner"] == "n1"
    backend.node = "n1"
    backend.group_changes = {"phase": Phase.STARTING}
    assert raw(path, "GET", "/v1/active/mail")[0] == 503
    backend.group_changes = {"lease_ms": 0}
    assert raw(path, "GET", "/v1/active/mail")[0] == 503


def test_metrics_are_prometheus_text(client, backend):
    text = client.metrics()
    assert text.splitlines()[2] == "hamail_up 1"
    assert 'hamail_group_owner{cluster="mail-pair",group="mail",node="n1"} 1' in text
    assert 'hamail_group_owner{cluster="mail-pair",group="mail",node="n2"} 0' in text
    assert 'hamail_nodes{cluster="mail-pair",node="n3",status="alive",type="witness"} 1' in text
    assert 'hamail_fence_device_ready{cluster="mail-pair",node="n2",device="ipmi"} 1' in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names)) and all(name.startswith("hamail_") for name in names)
    for line in text.splitlines():
        assert line.startswith("#") or float(line.rsplit(" ", 1)[1]) >= 0


def test_metrics_escape_labels(backend):
    backend.status_changes = {"version": 'a"b\\c\nd'}
    assert r'version="a\"b\\c\nd"' in metrics.render(backend.status())


# --- acting -----------------------------------------------------------------------------------------------------------


def test_move_is_proposed_with_actor_reason_epoch_and_chosen_target(client, backend):
    done = client.request_move("mail", reason="kernel update", request="req-0001")
    command = backend.submitted[0]
    assert (command.group, command.target, command.expected_epoch) == ("mail", "n2", 18)
    assert (command.request, command.reason) == ("req-0001", "kernel update")
    assert command.actor.startswith(pwd.getpwuid(os.getuid()).pw_name)
    assert done.request == "req-0001" and done.move == done.index == 21 and not done.repeated


def test_same_request_again_is_answered_and_not_repeated(client, backend):
    first = client.request_move("mail", request="req-0001")
    backend.refusals = {"n2": ("must not be asked again",)}
    again = client.request_move("mail", request="req-0001")
    assert (again.index, again.move, again.repeated) == (first.index, first.move, True)
    assert len(backend.submitted) == 1


def test_refusal_of_apply_is_the_same_for_a_retry(client, backend):
    backend.fate = [c.Outcome(index=21, accepted=False, reasons=("the group has moved on",))]
    for _ in range(2):
        with pytest.raises(cl.Refused) as caught:
            client.request_move("mail", request="req-0001")
        assert caught.value.reasons == ("the group has moved on",)
    assert len(backend.submitted) == 1


def test_unknown_outcome_carries_the_id_and_the_retry_proposes_the_very_same_command(client, backend):
    backend.fate = [c.Unknown(why="no coordinator answered within 5 s")]
    with pytest.raises(cl.OutcomeUnknown) as caught:
        client.request_move("mail", request="req-0001")
    assert caught.value.request == "req-0001"
    backend.refusals = {"n2": ("a preflight now would refuse",)}
    backend.now += 77
    assert client.request_move("mail", request="req-0001").index == 21
    assert backend.submitted[0] == backend.submitted[1]


def test_order_that_took_effect_unseen_is_answered_on_retry(client, backend):
    backend.fate = [c.Unknown(why="applied: but the answer was lost")]
    with pytest.raises(cl.OutcomeUnknown):
        client.clear("mail", request="req-0001")
    done = client.clear("mail", request="req-0001")
    assert (done.index, done.repeated) == (21, True)


def test_not_proposed_is_surely_not_done_only_the_first_time(client, backend):
    backend.fate = [NotProposed("no coordinator"), c.Unknown(why="lost"), NotProposed("no coordinator")]
    with pytest.raises(cl.SurelyNotDone):
        client.clear("mail", request="req-0001")
    for _ in range(2):
        with pytest.raises(cl.OutcomeUnknown):
            client.clear("mail", request="req-0002")


def test_crash_in_submit_is_an_unknown_outcome(client, backend):
    backend.fate = [RuntimeError("boom")]
    with pytest.raises(cl.OutcomeUnknown, match="RuntimeError: boom"):
        client.clear("mail", request="req-0001")


def test_concurrent_retry_joins_the_running_order(client, backend):
    backend.submit_delay_s = 0.3
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.clear("mail", request="req-0001"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert [answer.index for answer in answers] == [21, 21, 21] and len(backend.submitted) == 1


def test_order_outlives_an_impatient_client(client, backend, path):
    backend.submit_delay_s = 0.3
    with pytest.raises(cl.OutcomeUnknown, match="did not answer within"):
        cl.ControlClient(path, timeout_ms=100).clear("mail", request="req-0001")
    assert client.clear("mail", request="req-0001").index == 21
    assert len(backend.submitted) == 1


def test_slow_order_is_unknown_and_a_retry_joins_it(backend, path, monkeypatch):
    monkeypatch.setattr("hamail.control.server.Orders", lambda b: srv_orders(b, 100))
    backend.submit_delay_s = 0.3
    with serving(backend, path):
        client = cl.ControlClient(path)
        with pytest.raises(cl.OutcomeUnknown, match=r"no outcome after 0\.1 s"):
            client.clear("mail", request="req-0001")
        time.sleep(0.3)
        assert client.clear("mail", request="req-0001").index == 21
    assert len(backend.submitted) == 1


def srv_orders(backend, timeout_ms):
    from hamail.control.orders import Orders

    return Orders(backend, submit_timeout_ms=timeout_ms)


def test_id_used_for_something_else_is_refused(client):
    client.clear("mail", request="req-0001")
    with pytest.raises(cl.Invalid, match="was used for a different order"):
        client.fence("n2", request="req-0001")
    with pytest.raises(cl.Invalid, match="was used for a different order"):
        client.clear("mail", reason="other words", request="req-0001")


def test_without_quorum_nothing_is_proposed(client, backend):
    backend.quorum = False
    with pytest.raises(cl.SurelyNotDone, match="does not hear a majority"):
        client.request_move("mail")
    assert backend.submitted == []


def test_preflight_reasons_are_a_refusal(client, backend):
    backend.refusals = {"n2": ("n2 is on standby", "its fence device is not ready")}
    with pytest.raises(cl.Refused) as caught:
        client.request_move("mail")
    assert caught.value.reasons == backend.refusals["n2"]
    check = client.check_move("mail", "n2")
    assert (check.source, check.target, check.reasons) == ("n1", "n2", backend.refusals["n2"])
    assert backend.submitted == []


def test_standby_with_nowhere_to_go_needs_force(client, backend):
    backend.refusals = {"n2": ("n2 is not ready",)}
    with pytest.raises(cl.Refused) as caught:
        client.set_standby("n1", True)
    assert caught.value.reasons == ("mail: n2 is not ready",)
    client.set_standby("n1", True, force=True)
    assert backend.submitted[0].standby
    client.set_standby("n1", False)


def test_fence_confirm_needs_the_name_twice_and_a_silent_node(client, backend):
    with pytest.raises(cl.Invalid, match="'n1' is not 'n2'"):
        client.confirm_fence("n2", "n1")
    with pytest.raises(cl.Refused) as caught:
        client.confirm_fence("n2", "n2")
    assert caught.value.reasons == ("n2 was heard 37 ms ago, so it is running",)
    backend.node_changes = {"n2": {"alive": False, "silent_ms": 60_000}}
    client.confirm_fence("n2", "n2", reason="power cable pulled")
    assert isinstance(backend.submitted[0], c.FenceConfirmed)


def test_fence_needs_a_device(client):
    with pytest.raises(cl.Refused) as caught:
        client.fence("n3")
    assert caught.value.reasons == ("no fence device is configured for n3",)


def test_config_is_checked_and_applied_against_the_seen_revision(client, backend):
    assert client.check_config("x = 1\n").changes == backend.changes
    with pytest.raises(cl.Refused) as caught:
        client.apply_config("x = 1\n", expected_revision=2)
    assert caught.value.reasons == ("the configuration is at revision 3 by now, not 2",)
    assert client.apply_config("x = 1\n", expected_revision=3).revision == 4
    backend.problems = ("nodes.n1.address: '1.2.3' is not an address",)
    with pytest.raises(cl.Refused) as caught:
        client.apply_config("y = 1\n")
    assert caught.value.reasons == backend.problems


# --- bad input --------------------------------------------------------------------------------------------------------

BAD = [
    ("POST", "/v1/moves", b"{", 400, "body of /v1/moves: Input data was truncated"),
    ("POST", "/v1/moves", b"\xff\xfe", 400, "body of /v1/moves"),
    ("POST", "/v1/moves", b'{"a":' * 100_000, 400, "body of /v1/moves"),
    ("POST", "/v1/moves", b'{"group": 3}', 400, "Expected `str`, got `int` - at `$.group`"),
    ("POST", "/v1/moves", b'{"grup": "mail"}', 400, "unknown field `grup`"),
    ("POST", "/v1/moves", b"{}", 400, "missing required field `group`"),
    ("POST", "/v1/moves", b'{"group": "nope"}', 404, "no group 'nope' in this cluster; groups: mail"),
    ("POST", "/v1/moves", b'{"group": "mail", "to": "n9"}', 404, "no node 'n9' in this cluster; nodes: n1, n2, n3"),
    ("POST", "/v1/moves", b'{"group": "mail", "request": "short"}', 400, "'short' is not a request id"),
    ("POST", "/v1/clear", b'{"group": "mail", "reason": "a\\nb"}', 400, "reason: has a line break"),
    ("POST", "/v1/clear", b'{"group": "mail", "reason": "' + b"x" * 501 + b'"}', 400, "501 characters are more than"),
    ("POST", "/v1/standby", b'{"node": "n3", "standby": true}', 409, "n3 is a witness"),
    ("POST", "/v1/maintenance", b'{"on": "yes"}', 400, "Expected `bool`, got `str` - at `$.on`"),
    ("POST", "/v1/status", b"", 405, "POST /v1/status: use GET"),
    ("GET", "/v2/status", None, 404, "this hamaild speaks /v1"),
    ("GET", "/v1/status?x=1", None, 400, "unknown parameter 'x'"),
    ("GET", "/v1/events?after=-1", None, 400, "after: '-1' is not a whole number"),
    ("GET", "/v1/events?wait_ms=99999", None, 400, "wait_ms: 99999 is more than 30000"),
    ("GET", "/v1/history/abc", None, 400, "the id of a move is a number"),
    ("GET", "/v1/history/" + "9" * 5000, None, 400, "the id of a move is a number"),
    ("GET", "/v1/why/nope", None, 404, "no group 'nope'"),
    ("GET", "/v1/active/nope", None, 404, "no group 'nope'"),
    ("POST", "/v1/config", b"x" * (BODY_BYTES_MAX + 1), 413, "larger than 1048576 bytes"),
]


@pytest.mark.parametrize(("method", "url", "body", "status", "text"), BAD)
def test_bad_input_names_place_and_reason(client, backend, path, method, url, body, status, text):
    got, answer = raw(path, method, url, body)
    problem = json.loads(answer)
    assert (got, sorted(problem)) == (status, ["code", "error", "reasons", "request", "schema"])
    assert text in problem["error"]
    assert backend.submitted == []


def test_a_request_id_that_is_no_text_is_refused(client, path):
    """Headers may be any bytes; an answer that repeats them must still be JSON."""
    status, answer = raw(path, "POST", "/v1/clear", b'{"group":"mail"}', {"X-Request-Id": b"req-\xff\xfe00"})
    assert status == 400
    assert "is not a request id" in str(answer)


def test_request_id_may_come_in_the_header_but_not_differ(client, backend, path):
    body = b'{"group": "mail"}'
    assert raw(path, "POST", "/v1/clear", body, {"X-Request-Id": "req-0009"})[0] == 200
    assert backend.submitted[0].request == "req-0009"
    body = b'{"group": "mail", "request": "req-0010"}'
    status, answer = raw(path, "POST", "/v1/clear", body, {"X-Request-Id": "req-0011"})
    assert status == 400 and "differs from the header" in json.loads(answer)["error"]


def test_garbage_and_half_requests_do_not_hurt(client, path):
    for junk in (
        b"\x16\x03\x01\x02\x00" * 50,
        b"GET /v1/status HTTP/1.1\r\nContent-Length: 9\r\n\r\nx",
        b"GET " + b"a" * 99_999,
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(junk)
    assert client.status().node == "n1"


def test_surplus_connections_are_told_so(backend, path, monkeypatch):
    monkeypatch.setattr(srv, "CONNECTIONS_MAX", 2)
    with serving(backend, path):
        held = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for sock in held:
            sock.connect(str(path))
        time.sleep(0.1)
        with pytest.raises(cl.SurelyNotDone, match="too many clients"):
            cl.ControlClient(path).clear("mail")
        for sock in held:
            sock.close()
        time.sleep(0.1)
        assert cl.ControlClient(path).status().node == "n1"
    assert backend.submitted == []


# --- who may ----------------------------------------------------------------------------------------------------------


def as_user(uid: int, gid: int, groups: list[int], call) -> str:
    """Run `call` in a child that is somebody else; its result, or its error, as text."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
            text = str(call())
        except cl.ControlError as error:
            text = f"{type(error).__name__}: {error} {' '.join(error.reasons)}"
        except BaseException:
            text = traceback.format_exc()
        os.write(write_end, text.encode())
        sys.stdout.flush()
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


@pytest.fixture
def open_socket(backend, monkeypatch):
    """A socket that everybody can connect to, so that the server itself must decide."""
    monkeypatch.setattr(srv, "SOCKET_MODE", 0o666)
    directory = Path(f"/run/hamail-test-{os.getpid()}")
    directory.mkdir(mode=0o755)
    try:
        with serving(backend, directory / "c.sock", HAMAIL_GID):
            yield directory / "c.sock"
    finally:
        directory.rmdir()


@pytest.mark.root
def test_members_of_the_group_may_look_but_not_act(open_socket, backend):
    client = cl.ControlClient(open_socket)
    assert as_user(NOBODY, NOBODY, [HAMAIL_GID], lambda: client.status().node) == "n1"
    assert as_user(NOBODY, HAMAIL_GID, [], lambda: client.check_move("mail").target) == "n2"
    said = as_user(NOBODY, NOBODY, [7, HAMAIL_GID], lambda: client.request_move("mail"))
    assert said.startswith("Refused: nobody may look but not act")
    assert backend.submitted == []


@pytest.mark.root
def test_others_may_not_even_look(open_socket):
    client = cl.ControlClient(open_socket)
    said = as_user(NOBODY, NOBODY, [1, 2, 3], client.status)
    assert said.startswith("Refused: nobody may not talk to hamaild: members of the group hamail may look")


@pytest.mark.root
def test_socket_is_closed_to_others_by_its_mode(backend, path):
    with serving(backend, path, HAMAIL_GID):
        info = path.stat()
        assert (info.st_mode & 0o7777, info.st_gid) == (0o660, HAMAIL_GID)
    assert not path.exists()


def test_socket_is_closed_to_others_before_it_has_its_group(path, monkeypatch):
    modes = []
    monkeypatch.setattr(os, "chown", lambda place, *_: modes.append(Path(place).stat().st_mode & 0o077))
    srv.listen(path, HAMAIL_GID).close()
    assert modes == [0]


@pytest.mark.root
def test_no_permission_is_a_refusal_with_advice(backend):
    directory = Path(f"/run/hamail-test-{os.getpid()}")
    directory.mkdir(mode=0o755)
    try:
        with serving(backend, directory / "c.sock", HAMAIL_GID):
            client = cl.ControlClient(directory / "c.sock")
            said = as_user(NOBODY, NOBODY, [], client.status)
        assert said.startswith("Refused: no permission") and "join the group" in said
    finally:
        directory.rmdir()


# --- the socket -------------------------------------------------------------------------------------------------------


def test_no_daemon_says_what_to_try(path):
    with pytest.raises(cl.DaemonDown, match="systemctl status hamaild"):
        cl.ControlClient(path).status()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with pytest.raises(cl.DaemonDown, match="nobody listens"):
        cl.ControlClient(path).clear("mail")


def test_stale_socket_is_replaced_and_a_live_one_is_not(backend, path):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with serving(backend, path):
        with pytest.raises(FileExistsError, match="another hamaild is listening"), serving(FakeBackend(), path):
            pass
        assert cl.ControlClient(path).status().node == "n1"


def test_file_in_the_way_stays(backend, path):
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="not a socket"), serving(backend, path):
        pass
    assert path.read_text() == "precious"


def test_unknown_group_and_long_path_have_sentences(backend, path, tmp_path):
    with pytest.raises(LookupError, match="no group 'no-such-group'"), serving(backend, path, "no-such-group"):
        pass
    with pytest.raises(OSError, match="longer than 107 bytes"), serving(backend, tmp_path / ("x" * 120)):
        pass


def test_answer_from_something_else_is_an_error_with_a_sentence(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def answer_once(text):
        connection, _ = listener.accept()
        asked = b""
        while not asked.endswith((b"}", b"\r\n\r\n")) or (asked.startswith(b"POST") and not asked.endswith(b"}")):
            asked += connection.recv(65536)
        connection.sendall(text)
        connection.close()

    for text, words in ((b"", "hung up before it answered"), (b"HTTP/1.1 200 OK\r\n\r\n{}", "makes no sense")):
        for call, kind in ((lambda x: x.status(), cl.Failed), (lambda x: x.clear("mail"), cl.OutcomeUnknown)):
            thread = threading.Thread(target=answer_once, args=(text,))
            thread.start()
            with pytest.raises(kind, match=words):
                call(cl.ControlClient(path))
            thread.join(5)
    listener.close()


def test_a_refusal_before_the_log_is_kept_in_the_history(client, backend):
    backend.refusals = {"n2": ("n2 is being fenced",)}
    with pytest.raises(cl.Refused):
        client.request_move("mail", "n2", "because")
    assert backend.noted == [("root", "switchover mail --to n2", "mail cannot be moved now; n2 is being fenced")]
