"""Who keeps a mount busy is ended, also when it forks in the moment of the kill."""

import signal

import pytest

from hamail.ocf import unmount
from hamail.ocf.codes import Failure
from hamail.ocf.mounts import Mount
from hamail.ocf.process import Process

MOUNT = Mount(1, (7, 1), "/", "/srv/mail", frozenset({"rw"}), "ext4", "/dev/lun", frozenset({"rw"}))


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict:
    """A mount that `users` keep busy. Each look at them may change who they are."""
    state: dict = {"users": [], "next": [], "sent": []}

    def openers(_mount: Mount) -> list[Process]:
        return list(state["users"])

    def send(victims: list[Process], signum: signal.Signals) -> None:
        state["sent"].append((signum, [p.pid for p in victims]))
        if signum is signal.SIGKILL and state["next"]:
            state["users"] = state["next"].pop(0)

    monkeypatch.setattr(unmount, "list_openers", openers)
    monkeypatch.setattr(unmount, "send", send)
    monkeypatch.setattr(unmount, "wait_gone", lambda *_: [])
    monkeypatch.setattr(unmount, "_settled", lambda *_: not state["users"])
    monkeypatch.setattr(unmount, "mounts", list)
    return state


def test_a_child_forked_in_the_moment_of_the_kill_is_killed_as_well(room: dict) -> None:
    shell, child, grandchild = Process(10, 1), Process(11, 2), Process(12, 3)
    room["users"], room["next"] = [shell], [[child], [grandchild], []]
    unmount._evict(MOUNT, 10, lambda _: None)
    assert [pids for _, pids in room["sent"]] == [[10], [10], [11], [12]]


def test_what_a_kill_does_not_end_is_not_killed_again(room: dict) -> None:
    room["users"] = [Process(10, 1)]
    with pytest.raises(Failure, match="still in use by 10"):
        unmount._evict(MOUNT, 10, lambda _: None)
    assert [signum for signum, _ in room["sent"]] == [signal.SIGTERM, signal.SIGKILL]


def test_one_that_forks_for_ever_is_given_up(room: dict) -> None:
    room["users"], room["next"] = [Process(10, 1)], [[Process(n, n)] for n in range(11, 99)]
    with pytest.raises(Failure):
        unmount._evict(MOUNT, 10, lambda _: None)
    assert len(room["sent"]) == 1 + unmount.KILL_ROUNDS
