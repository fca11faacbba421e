"""Who asked, as it is written into the history."""

import os
import socket

import pytest

from hamail.control.peer import Peer, actor_of, gid_of, peer_of


def proc(tmp_path, tty_nr=0, login=2**32 - 1, name="hamailctl"):
    folder = tmp_path / "77"
    folder.mkdir()
    (folder / "stat").write_text(f"77 ({name}) S 1 77 77 {tty_nr} 77 4194304 0 0\n")
    (folder / "loginuid").write_text(str(login))
    return tmp_path


ROOT = Peer(pid=77, uid=0, gids=frozenset({0}))


@pytest.mark.parametrize(
    ("tty_nr", "login", "actor"),
    [
        (0, 2**32 - 1, "root"),
        (136 << 8 | 3, 0, "root@pts/3"),
        (137 << 8 | 1, 0, "root@pts/257"),
        (4 << 8 | 1, 0, "root@tty1"),
        (4 << 8 | 64, 0, "root"),  # a serial line
        (136 << 8, 65534, "root@pts/0 (login nobody)"),
        (0, 64_999, "root (login uid 64999)"),
    ],
)
def test_actor_names_user_terminal_and_login(tmp_path, tty_nr, login, actor):
    assert actor_of(ROOT, proc(tmp_path, tty_nr, login)) == actor


def test_actor_when_the_process_is_gone_or_has_a_strange_name(tmp_path):
    assert actor_of(ROOT, tmp_path) == "root"
    assert actor_of(ROOT, proc(tmp_path, 136 << 8, name="a) S 1 (b")) == "root@pts/0"


def test_the_kernel_tells_who_is_there():
    left, right = socket.socketpair(socket.AF_UNIX)
    with left, right:
        peer = peer_of(left)
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    assert {os.getgid(), *os.getgroups()} <= peer.gids


def test_who_may():
    member, other = Peer(1, 1000, frozenset({5, 7})), Peer(1, 1000, frozenset({5}))
    assert (member.may_look(7), member.may_act()) == (True, False)
    assert (other.may_look(7), other.may_act()) == (False, False)
    assert (ROOT.may_look(7), ROOT.may_act()) == (True, True)


def test_group_by_name_or_number():
    assert gid_of("root") == 0 and gid_of(123) == 123
    with pytest.raises(LookupError, match="no group 'nope-nope'"):
        gid_of("nope-nope")
