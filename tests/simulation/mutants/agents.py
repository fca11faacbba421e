"""Planted in the agents and their SDK; the hunts drive the agents' own code on a small world drawn by the seed."""

import contextlib
import random
import socket
import sys
import tempfile
import threading
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import SimpleNamespace

from hamail.executor import trust
from hamail.network.addresses import parse_addresses
from hamail.ocf import claim, greeting, prepared
from hamail.ocf.codes import Failure
from tests.simulation.mutants.mutant import Mutant

ROOT = Path(__file__).parents[3]


def load(name):
    loader = SourceFileLoader(f"mutant_{name}", str(ROOT / "agents" / name))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


VIP = load("vip")


# -- the claim on the storage ------------------------------------------------------------------------------------------


def hunt_claim(seed):
    """A start never follows a claim that is newer, of another cluster or group, or of another node at its epoch."""
    rng = random.Random(seed)

    def drawn():
        return claim.Claim(
            cluster=rng.choice("cd"), group=rng.choice("mw"), epoch=rng.randrange(1, 4), node=rng.choice(("n1", "n2"))
        )

    for _case in range(50):
        found, ours = drawn(), drawn()
        if rng.random() < 0.5:
            found = claim.Claim(cluster=ours.cluster, group=ours.group, epoch=found.epoch, node=found.node)
        same_owner = found.cluster == ours.cluster and found.group == ours.group
        wrong = not same_owner or found.epoch > ours.epoch or (found.epoch == ours.epoch and found.node != ours.node)
        refused = claim.conflict(claim.decode(claim.encode(found)), ours)
        assert bool(refused) == wrong, f"{ours} after {found}: {refused or 'accepted'}"


def older_claim_accepted(m):
    right = claim.conflict
    m.setattr(claim, "conflict", lambda found, ours: "" if found and found.epoch > ours.epoch else right(found, ours))


def same_epoch_shared(m):
    right = claim.conflict
    m.setattr(claim, "conflict", lambda found, ours: "" if found and found.epoch == ours.epoch else right(found, ours))


# -- the address -------------------------------------------------------------------------------------------------------


def hunt_vip(seed):
    """Nothing is added while another machine answers for it; what was added is announced."""
    rng = random.Random(seed)
    addresses = parse_addresses("192.0.2.10/24 192.0.2.11/24")
    here = [a for a in addresses if rng.random() < 0.3]
    answers = {a for a in addresses if rng.random() < 0.3}
    announced = []

    class Netlink:
        def addresses(self, _index):
            return list(here)

        def add(self, address, _link):
            assert address not in answers, f"{address} is added although another machine answers for it"
            here.append(address)

    link = SimpleNamespace(index=2, name="eth0", ethernet=True, up=True, carrier=True)

    def find_conflict(asked, _wire, _wait_ms):
        taken = [a for a in asked if a in answers]
        return SimpleNamespace(ip=taken[0], mac=b"\2\0\0\0\0\1") if taken else None

    seams = {
        "opened": lambda: contextlib.nullcontext(Netlink()),
        "Wire": lambda link, **_how: contextlib.nullcontext(SimpleNamespace(link=link, filenos=list)),
        "link_of": lambda _call, _netlink: link,
        "usable_link": lambda _link, _addresses: None,
        "find_conflict": find_conflict,
        "announce": lambda told, _wire: announced.extend(told),
        "state": lambda present, address, _link: "" if address in present else "it is missing",
        "appearances": lambda _present, _address, _link: [],
        "task": lambda _call: "mutant.vip",
        "note": lambda _name: None,
        "detach": lambda *_given, **_how: None,
        "prepared": SimpleNamespace(take=lambda _name: None),
    }
    kept = {name: getattr(VIP, name) for name in seams}
    call = SimpleNamespace(
        text=lambda _name: "192.0.2.10/24 192.0.2.11/24", number=lambda name: {"conflict_wait_ms": 100}.get(name, 0)
    )
    try:
        for name, value in seams.items():
            if getattr(kept[name], "planted", False) is False:
                setattr(VIP, name, value)
        with contextlib.suppress(Failure):
            VIP.start(call)
            assert set(announced) == set(addresses), "an address was added and not announced"
    finally:
        for name, value in kept.items():
            setattr(VIP, name, value)


def no_conflict_probe(m):
    m.setattr(VIP, "refuse_conflict", lambda _call, _addresses, _wire: None)


def not_announced(m):
    def silent(_addresses, _wire):
        return

    silent.planted = True
    m.setattr(VIP, "announce", silent)


# -- greetings ---------------------------------------------------------------------------------------------------------


def hunt_banner(seed):
    """Running is what greets with 220, not what takes a connection."""
    rng = random.Random(seed)
    said = rng.choice((b"220 mail ESMTP\r\n", b"421 too busy\r\n", b"554 no\r\n", b"", b"hello\r\n"))
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = str(Path(folder) / "smtp")
        server.bind(path)
        server.listen(1)

        def serve():
            connection, _peer = server.accept()
            with connection:
                connection.sendall(said)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            greeting.smtp_banner(path, 2.0)
            runs = True
        except greeting.NoAnswer:
            runs = False
        thread.join(2)
        assert runs == said.startswith(b"220"), f"a server that says {said!r} counts as {'up' if runs else 'down'}"


def connected_is_up(m):
    m.setattr(greeting, "expect_220", lambda _talk: None)


# -- what was prepared -------------------------------------------------------------------------------------------------


def hunt_prepared(seed):
    """An answer found ahead counts once and only for a moment."""
    rng = random.Random(seed)
    age_s = rng.choice((0.0, 1.0, 2.9, 3.5, 60.0, -5.0))
    notes, now_s = {}, [1000.0]
    seams = {
        "note": notes.__setitem__,
        "noted": lambda name: notes.get(name, ""),
        "forget": lambda name: notes.pop(name, None),
        "boottime_s": lambda: now_s[0],
    }
    kept = {name: getattr(prepared, name) for name in seams}
    try:
        for name, value in seams.items():
            setattr(prepared, name, value)
        prepared.keep("vip", "free")
        now_s[0] += age_s
        first, second = prepared.take("vip"), prepared.take("vip")
    finally:
        for name, value in kept.items():
            setattr(prepared, name, value)
    assert second is None, "an answer found ahead counts twice"
    assert (first is not None) == (0 <= age_s <= 3.0), f"an answer {age_s} s old gives {first!r}"


def prepared_for_ever(m):
    m.setattr(prepared, "FRESH_S", 1e9)


def prepared_again_and_again(m):
    right = prepared.take

    def take(name):
        kept = prepared.noted(f"{name}.prepared")
        text = right(name)
        if text is not None:
            prepared.note(f"{name}.prepared", kept)
        return text

    m.setattr(prepared, "take", take)


# -- whom the executor trusts ------------------------------------------------------------------------------------------


def hunt_trust(seed):
    """A program that others than root can change, itself or by a folder on its way, is not run."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(dir="/run") as name:
        folder = Path(name) / "provider"
        folder.mkdir()
        Path(name).chmod(0o755)
        agent = folder / "agent"
        agent.write_text("#!/bin/sh\n")
        modes = {p: rng.choice((0o755, 0o755, 0o755, 0o775, 0o757)) for p in (folder, agent)}
        for path, mode in modes.items():
            path.chmod(mode)
        try:
            trust.trusted_executable(agent)
            trusted = True
        except trust.Untrusted:
            trusted = False
        assert trusted == all(mode == 0o755 for mode in modes.values()), f"trusted: {trusted}, modes {modes}"


def only_the_file_is_looked_at(m):
    right = trust._owned_by_root
    m.setattr(trust, "_owned_by_root", lambda here: here.lstat() if here.is_dir() else right(here))


MUTANTS = [
    Mutant("older_epoch_after_newer_claim", "No mount under an older epoch.", older_claim_accepted, hunt_claim),
    Mutant("two_nodes_at_one_epoch", "An epoch has one holder on the storage.", same_epoch_shared, hunt_claim),
    Mutant("vip_without_conflict_probe", "An address in use is not added.", no_conflict_probe, hunt_vip),
    Mutant("vip_not_announced", "A new address is announced.", not_announced, hunt_vip),
    Mutant("postfix_up_without_banner", "Up is what greets.", connected_is_up, hunt_banner),
    Mutant("prepared_for_ever", "An answer found ahead holds for a moment.", prepared_for_ever, hunt_prepared),
    Mutant("prepared_twice", "An answer found ahead holds once.", prepared_again_and_again, hunt_prepared),
    Mutant("folder_of_agent_writable", "Nobody else can swap an agent.", only_the_file_is_looked_at, hunt_trust),
]
MUTANTS = [Mutant(x.name, x.breaks, x.plant, x.hunt, x.seeds_max, quick=tuple(range(20))) for x in MUTANTS]
