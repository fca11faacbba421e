"""Incidents on the command line: the timeline fills itself, and what is wrong is said with the next step."""

import json
import time

import pytest
from click.testing import CliRunner
from control_fake import FakeBackend, serving

from hamail.cli.main import cli


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    path = tmp_path / "c.sock"
    backend = FakeBackend()

    def call(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, list(words), env={"HAMAIL_SOCKET": str(path), "COLUMNS": "120"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    with serving(backend, path):
        yield call


def test_an_incident_from_open_to_export(run, tmp_path) -> None:
    code, said = run("incident", "open", "mail is slow")
    assert code == 0 and "is open" in said
    assert run("incident", "open", "another")[0] == 3, "one at a time"
    assert run("incident", "note", "called Jo | the data centre")[0] == 0
    assert run("standby", "n2", "--yes", "--no-wait", "--reason", "test")[0] == 0
    code, said = run("incident", "close", "--text", "a broken cable")
    assert code == 0, said
    code, said = run("incident", "show")
    assert "# Incident" in said and "NOTE: called Jo \\| the data centre" in said and "a broken cable" in said
    assert "n2" in said, "the cluster's own events are in it"
    told = json.loads(run("incident", "show", "--json")[1])
    assert told["closed_ms"] and [line["at_ms"] for line in told["timeline"]] == sorted(
        line["at_ms"] for line in told["timeline"]
    )
    file = tmp_path / "i.md"
    assert run("incident", "export", "-o", str(file))[0] == 0
    assert "mail is slow" in file.read_text()
    assert json.loads(run("incident", "export", "--format", "json")[1])["title"] == "mail is slow"
    assert "mail is slow (2 notes)" in run("incident", "list")[1]
    assert len(json.loads(run("incident", "list", "--json")[1])["incidents"]) == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("incident", "note", "x"), 3, "there is no open incident"),
        (("incident", "close", "9"), 3, "there is no open incident 9"),
        (("incident", "show"), 3, "there is no incident; known: none"),
        (("incident", "open", " "), 2, "one line of text"),
        (("incident", "open", "a\nb"), 2, "one line of text"),
        (("incident", "open", "x" * 501), 2, "at most 500"),
    ],
)
def test_what_is_wrong_is_said(run, words, code: int, says: str) -> None:
    found, said = run(*words)
    assert found == code and says in said
