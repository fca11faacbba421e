"""Planted bugs of the log: of the journal, of the adapter, and of what PySyncObj would do without it."""

from hamail.consensus import codec, records, snapshots
from hamail.consensus import journal as journal_module
from hamail.consensus.codec import Chunk
from hamail.consensus.journal import Journal
from hamail.consensus.memory_disk import _File
from hamail.consensus.proposals import Proposals
from hamail.consensus.records import Ballot, Heard, Rejoining
from hamail.consensus.snapshots import Snapshots
from hamail.consensus.syncobj import SyncObjConsensus
from hamail.core.engine import Engine
from hamail.model.commands import Outcome
from hamail.simulation.disk import SimulatedDisk
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.old_copy import OldCopy
from tests.simulation.storm import KINDS, Storm

CRASHES = ("power", "kill", "isolate", "heal", "all_power")
DISKS = ("power", "all_power", "kill", "io_error", "repair")


def term_not_durable(monkeypatch):
    """Term and vote are kept in memory only."""

    def set_current_term(self, term, vote):
        self.term, self.vote = term, vote

    monkeypatch.setattr(Journal, "setCurrentTerm", set_current_term)


def vote_not_durable(monkeypatch):
    """The term is durable, the vote is not."""
    right = Journal.setCurrentTerm

    def set_current_term(self, term, vote):
        right(self, term, vote)
        self._pending = [Ballot(r.term, None) if isinstance(r, Ballot) else r for r in self._pending]

    monkeypatch.setattr(Journal, "setCurrentTerm", set_current_term)


def journal_not_synced(monkeypatch):
    """What is appended to the journal is written, but not synced."""

    def append(self, data):
        self._file.write_at(self._offset, data)
        self._offset += len(data)
        self._number += 1

    monkeypatch.setattr(Journal, "_append", append)


def directory_not_synced(monkeypatch):
    """The new journal takes the place of the old one, but its name is not synced."""
    monkeypatch.setattr(SimulatedDisk, "sync_directory", lambda self, path: None)

    def initialise(path, cluster, node, *, disk, **options):
        journal_module.initialise(path, cluster, node, disk=disk, **options)
        disk._durable_names = dict(disk._names)

    monkeypatch.setattr("hamail.simulation.logs.raft.initialise", initialise)


def failed_sync_is_tried_again(monkeypatch):
    """A sync that failed is simply repeated, and believed when it succeeds."""
    right = _File.sync

    def sync(self):
        try:
            right(self)
        except OSError:
            right(self)

    monkeypatch.setattr(_File, "sync", sync)


def page_cache_is_believed(monkeypatch):
    """What the journal reads at its start is not written anew, though the last life could not make it durable."""
    right = _File.write_at

    def write_at(self, offset, data):
        if offset != 0 or bytes(self._inode.now[: len(data)]) != data:
            right(self, offset, data)

    monkeypatch.setattr(_File, "write_at", write_at)


def checksum_not_verified(monkeypatch):
    """The journal does not compare the checksum of what it reads."""
    monkeypatch.setattr(records, "_checksum", lambda number, payload: 0)


def sent_before_durable(monkeypatch):
    """Messages leave while the disk still works on what they promise."""
    right = SyncObjConsensus._make_durable_and_send

    def make_durable_and_send(self):
        self._flush()
        right(self)

    monkeypatch.setattr(SyncObjConsensus, "_make_durable_and_send", make_durable_and_send)


def leader_is_believed(monkeypatch):
    """A node that takes itself for the leader answers before a majority has the entry."""
    right = SyncObjConsensus._submit

    def submit(self, command, number, asked_by):
        right(self, command, number, asked_by)
        if asked_by is None:
            self._proposals.applied(number, Outcome(index=self._journal.last_index + 1, accepted=True))

    monkeypatch.setattr(SyncObjConsensus, "_submit", submit)


def unknown_is_tried_again(monkeypatch):
    """A command that may or may not be in the log is sent to the next leader."""

    def lose_sent_elsewhere(self, leader):
        for p in list(self._waiting.values()):
            if p.sent_to is not None and p.sent_to != leader:
                self.not_done(p.number, p.sent_to, 0)

    monkeypatch.setattr(Proposals, "lose_sent_elsewhere", lose_sent_elsewhere)


def commit_index_of_a_snapshot(monkeypatch):
    """The commit index in a snapshot message commits what the node's own log holds there."""
    monkeypatch.setattr(snapshots, "SNAPSHOT_CHUNK_BYTES", 600)  # so that there are some that bring no whole snapshot
    newest = {}
    out, into = codec.from_library, codec.to_library

    def from_library(message):
        body = out(message)
        if isinstance(body, Chunk):
            newest[body.term] = message["commit_index"]
        return body

    def to_library(body):
        message = into(body)
        if isinstance(body, Chunk):
            message["commit_index"] = newest.get(body.term, 0)
        return message

    monkeypatch.setattr(codec, "from_library", from_library)
    monkeypatch.setattr(codec, "to_library", to_library)


def agreeing_append_deletes(monkeypatch):
    """An append deletes what follows it in the log, also where the log agrees with the leader's."""
    monkeypatch.setattr(SyncObjConsensus, "_keep_what_agrees", lambda self, body: body)


def refusal_counts_as_success(monkeypatch):
    """The leader takes every answer to an append for an acknowledgement."""
    right = SyncObjConsensus._handle_ack

    def handle_ack(self, peer, sender_term, body):
        right(self, peer, sender_term, codec.Ack(body.next_index, False, True))

    monkeypatch.setattr(SyncObjConsensus, "_handle_ack", handle_ack)


def old_snapshot_is_news(monkeypatch):
    """A snapshot is installed although the node is past it."""
    monkeypatch.setattr(Snapshots, "_is_news", lambda self, snapshot: True)


def votes_for_an_older_log(monkeypatch):
    """A vote is given without a look at the candidate's log."""
    right = SyncObjConsensus._handle_request_vote

    def handle_request_vote(self, peer, body):
        right(self, peer, codec.RequestVote(body.term, 10**9, 10**9))

    def handle_pre_vote(self, peer, body):
        self._link.post(peer, codec.PreVoteAnswer(body.round, not self._is_leader))

    monkeypatch.setattr(SyncObjConsensus, "_handle_request_vote", handle_request_vote)
    monkeypatch.setattr(SyncObjConsensus, "_handle_pre_vote", handle_pre_vote)


def replaced_disk_votes(monkeypatch):
    """A node that has lost its disk takes part at once, as if it had promised nothing before."""
    right = Journal._replay

    def replay(self, record):
        right(self, record)
        self.rejoining = Rejoining(pending=False, above_term=0)

    monkeypatch.setattr(Journal, "_replay", replay)


def old_copy_is_believed(monkeypatch):
    """A journal that was put back to an older copy is taken for what its node knew last."""
    monkeypatch.setattr(Journal, "holds", lambda self, mark: True)


def peers_are_not_remembered(monkeypatch):
    """What a node has heard of its peers is in its memory only."""
    monkeypatch.setattr(Journal, "hear", lambda self, peer, mark: None)
    right = Journal._replay

    def replay(self, record):
        if not isinstance(record, Heard):
            right(self, record)

    monkeypatch.setattr(Journal, "_replay", replay)


def configuration_half_applied(monkeypatch):
    """A new configuration is in the state, but the node goes on with the old timings."""
    monkeypatch.setattr(Engine, "_reconfigure", lambda self: self.local.reconfigure())


def _storm(*kinds, **options):
    def hunt(seed):
        Storm(seed, kinds or KINDS, **options).run()

    return hunt


def _old_copy(seed):
    s = OldCopy(seed, new_life=bool(seed % 2))
    s.meet_the_leader(1 + seed % 3)
    s.meet_the_third()


def _mutant(plant, hunt, quick=(), seeds_max=60):
    return Mutant(plant.__name__, plant.__doc__.strip(), plant, hunt, seeds_max, quick)


MUTANTS = [
    _mutant(term_not_durable, _storm(*CRASHES), (0,)),
    _mutant(vote_not_durable, _storm(*CRASHES), (0,)),
    _mutant(journal_not_synced, _storm(*CRASHES), (0,)),
    _mutant(directory_not_synced, _storm(*CRASHES, compact_entries=4), (0,)),
    _mutant(failed_sync_is_tried_again, _storm(*DISKS), (4,)),
    _mutant(page_cache_is_believed, _storm(*DISKS, compact_entries=1000), (0,)),
    _mutant(checksum_not_verified, _storm("flip", "heal", "flip", "kill", compact_entries=1000), (0,)),
    _mutant(sent_before_durable, _storm(*CRASHES, "slow_disk"), (0,)),
    _mutant(leader_is_believed, _storm(*CRASHES), (0,)),
    _mutant(unknown_is_tried_again, _storm("isolate", "heal", "one_way", "lossy"), (0,)),
    _mutant(
        commit_index_of_a_snapshot, _storm("isolate", "heal", "one_way", "mend_one", "pause", compact_entries=4), (1,)
    ),
    _mutant(agreeing_append_deletes, _storm("lossy", "heal", "power", "isolate", "flap"), (0,)),
    _mutant(replaced_disk_votes, _storm("replace", "isolate", "isolate", "mend_one", "mend_one", "kill"), (0,)),
    _mutant(old_snapshot_is_news, _storm("lossy", "heal", "isolate", "one_way", "mend_one", compact_entries=4), (3,)),
    _mutant(refusal_counts_as_success, _storm(*CRASHES), (0,)),
    _mutant(votes_for_an_older_log, _storm(*CRASHES), (0,)),
    _mutant(old_copy_is_believed, _old_copy, (0,)),
    _mutant(peers_are_not_remembered, _old_copy, (0,)),
    _mutant(configuration_half_applied, _storm("config", "kill"), (0,)),
]
