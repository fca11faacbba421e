"""At least two hundred wrong inputs, by a table: what is said names the place and the reason, and nothing changes."""

import shlex

import pytest
from click.testing import CliRunner
from control_fake import FakeBackend, serving
from wrong_inputs import BASE, COMMAND_LINE, CONFIGURATION

from hamail.cli.main import cli
from hamail.config import ConfigError, parse_cluster
from hamail.daemon.backend import GIVEN

REFUSED = 3


class Reader(FakeBackend):
    """Reads a configuration as hamaild does."""

    def check_config(self, source):
        try:
            return parse_cluster(source, GIVEN), (), self.changes
        except ConfigError as error:
            return None, tuple(f"{p.place}: {p.reason}" for p in error.problems), ()


@pytest.fixture(scope="module")
def backend():
    return Reader()


@pytest.fixture(scope="module")
def call(backend, tmp_path_factory):
    path = tmp_path_factory.mktemp("control") / "c.sock"

    def run(*words):
        result = CliRunner().invoke(cli, list(words), env={"HAMAIL_SOCKET": str(path), "COLUMNS": "100"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stderr or result.stdout  # with --json an error is a document

    with serving(backend, path):
        yield run


def test_there_are_enough_of_them():
    assert len(CONFIGURATION) + len(COMMAND_LINE) >= 200


@pytest.mark.parametrize(("old", "new", "said"), CONFIGURATION, ids=[repr(new)[:40] for _, new, _ in CONFIGURATION])
def test_wrong_configuration(call, backend, tmp_path, old, new, said):
    assert BASE.count(old) >= 1
    file = tmp_path / "cluster.toml"
    file.write_text(BASE.replace(old, new, 1))
    before, sent = backend.st, len(backend.submitted)
    for words in (("config", "check", str(file)), ("config", "apply", str(file), "--yes")):
        code, told = call(*words)
        assert code == REFUSED and said in told and "nothing was changed" in told, told
    assert backend.st is before and len(backend.submitted) == sent


@pytest.mark.parametrize(("line", "code", "said"), COMMAND_LINE, ids=[line for line, _, _ in COMMAND_LINE])
def test_wrong_command_line(call, backend, line, code, said):
    backend.st = before = FakeBackend().st
    sent = len(backend.submitted)
    found, told = call(*shlex.split(line))
    assert found == code and said in told, told
    groups = (backend.st.groups, backend.st.nodes, backend.st.config, backend.st.maintenance, backend.st.scheduled)
    assert groups == (before.groups, before.nodes, before.config, before.maintenance, before.scheduled)
    assert len(backend.submitted) == sent, "nothing was ordered"
