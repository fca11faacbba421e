"""Every command's --json has a schema that is current, and what is really printed keeps to it."""

import json
import sys
from pathlib import Path

import click
import jsonschema
import msgspec
import pytest
from click.testing import CliRunner
from control_fake import FakeBackend, serving

from hamail.cli.main import cli
from hamail.cli.outputs import DOCUMENTS, VERSIONS, schema
from hamail.control.port import NotProposed
from hamail.model.state import Decision, Term

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import schemas  # noqa: E402

ELSEWHERE = {"probe"}  # writes records to a file; they have a format of their own


@pytest.fixture(scope="module")
def backend():
    return FakeBackend()


@pytest.fixture(scope="module")
def path(tmp_path_factory, backend):
    path = tmp_path_factory.mktemp("control") / "c.sock"
    with serving(backend, path):
        yield path


def printed(path, *words):
    env = {"HAMAIL_SOCKET": str(path), "COLUMNS": "80"}
    result = CliRunner().invoke(cli, [*words, "--json"], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def commands(command, words=()):
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*words, name))
    elif any("--json" in getattr(p, "opts", ()) for p in command.params):
        yield "-".join(words)


def test_every_command_has_a_schema():
    missing = set(commands(cli)) - set(DOCUMENTS) - ELSEWHERE
    assert not missing, f"add what they print to hamail/cli/outputs.py, then: make schemas; {sorted(missing)}"


def test_the_schemas_in_the_documents_are_current():
    assert not schemas.stale(), "make schemas"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_schemas_are_schemas(name):
    jsonschema.Draft202012Validator.check_schema(schema(name))


def valid(text):
    body = json.loads(text)
    name = body["schema"].split("/")[1]
    jsonschema.validate(body, schema(name), jsonschema.Draft202012Validator)
    return body["schema"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["status"], "status"),
        (["history"], "history"),
        (["history", "17"], "move"),
        (["why", "mail"], "why"),
        (["why", "17"], "why"),
        (["why", "18"], "why"),
        (["why", "99"], "error"),
        (["plan"], "plan"),
        (["plan", "--if", "node-down=n1"], "plan"),
        (["plan", "--if", "node-down=n1", "--if", "fence-fails=ipmi"], "plan"),
        (["plan", "--if", "nonsense"], "error"),
        (["timing"], "timing"),
        (["version"], "version"),
        (["config", "show"], "config-show"),
        (["scheduled"], "scheduled"),
        (["clear", "mail"], "clear"),
        (["clear", "nix"], "error"),
        (["maintenance", "on"], "maintenance"),
        (["maintenance", "off"], "maintenance"),
        (["switchover", "mail", "--dry-run"], "preflight"),
        (["switchover", "mail", "--yes"], "switchover"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, list) else x,
)
def test_what_is_printed_keeps_to_its_schema(path, words, name):
    _, out = printed(path, *words)
    assert valid(out) == f"hamail/{name}/{VERSIONS.get(name, 1)}"


def test_every_event_is_a_document(path, backend):
    decision = Decision(rule="order_fence", facts={"n1": "heard"}, rejected={"wait": "no"})
    told = msgspec.structs.replace(backend.st.events[0], decision=decision)
    backend.st = msgspec.structs.replace(backend.st, events=(told, *backend.st.events[1:]))
    lines = printed(path, "events")[1].splitlines()
    assert lines and {valid(line) for line in lines} == {"hamail/events/1"}


def test_status_with_everything_in_it(path, backend):
    term = Term(since=1, since_ms=1, until_ms=2, actor="root", reason="x")
    group = msgspec.structs.replace(backend.st.group("mail"), bans={"n2": term})
    backend.st = msgspec.structs.replace(backend.st, groups={"mail": group})
    assert valid(printed(path, "status")[1]) == "hamail/status/2"


def test_a_saved_state_keeps_to_its_schema(path, tmp_path):
    file = tmp_path / "state.json"
    printed(path, "plan", "--save-state", str(file))
    assert valid(file.read_text()) == "hamail/situation/1"


def test_a_document_that_does_not_keep_to_it_is_found():
    with pytest.raises(jsonschema.ValidationError):
        valid('{"schema": "hamail/move/1", "move": {"id": "seventeen"}}')


def test_refusals_of_a_daemon_that_does_nothing(path, backend):
    backend.fate = [NotProposed("no coordinator is known")]
    code, out = printed(path, "clear", "mail")
    assert code == 4 and valid(out) == "hamail/error/1"
