"""hamailctl config diff, history, rollback, edit."""

import json

import jsonschema
import pytest
from click.testing import CliRunner
from control_fake import FakeBackend, serving
from msgspec.structs import replace

from hamail.cli.main import cli
from hamail.cli.outputs import schema
from hamail.model import commands as c
from hamail.model.state import ConfigRevision

OLD = '[cluster]\nname = "mail-pair"\n'


def revision(number, source, reason=""):
    return ConfigRevision(
        revision=number, index=number, applied_at_ms=1_700_000_000_000, actor="anna", reason=reason, source=source
    )


@pytest.fixture
def backend():
    backend = FakeBackend()
    backend.st = replace(
        backend.st, revisions=(revision(1, OLD), revision(2, OLD + 'detection = "2s"\n', "slower")),
        config=replace(backend.st.config, revision=3, source=OLD + 'detection = "3s"\n'),
    )  # fmt: skip
    return backend


@pytest.fixture
def run(backend, tmp_path):
    path = tmp_path / "c.sock"

    def call(*words, typed=None, editor=""):
        env = {"COLUMNS": "100", "HAMAIL_SOCKET": str(path), "EDITOR": editor}
        result = CliRunner().invoke(cli, ["config", *words], input=typed, env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    with serving(backend, path):
        yield call


def applied(backend):
    return [x.source for x in backend.submitted if isinstance(x, c.ApplyConfig)]


def test_diff_of_the_last_change(run):
    code, out, _ = run("diff")
    assert code == 0 and '-detection = "2s"' in out and '+detection = "3s"' in out and "--- revision 2" in out


def test_diff_of_two_revisions_and_of_a_file(run, tmp_path):
    assert '+detection = "2s"' in run("diff", "1", "2")[1]
    file = tmp_path / "cluster.toml"
    file.write_text(OLD)
    assert '-detection = "3s"' in run("diff", str(file))[1]
    assert json.loads(run("diff", "2", "3", "--json")[1])["new"] == "revision 3"


def test_history(run):
    code, out, _ = run("history")
    assert code == 0 and "3 (in force)" in out and "slower" in out and "anna" in out


def test_show_of_an_earlier_one(run):
    assert run("show", "--revision", "1")[1] == OLD
    code, _, err = run("show", "--revision", "9")
    assert code == 3 and "revision 9 is not kept" in err


def test_rollback_applies_the_old_text_as_a_new_revision(run, backend):
    code, out, _ = run("rollback", "--yes")
    assert code == 0 and "Applied as revision 4" in out and "nothing is stopped, moved or fenced" in out
    assert applied(backend) == [OLD + 'detection = "2s"\n'] and backend.submitted[-1].reason == "back to revision 2"


def test_rollback_asks_and_takes_no_for_an_answer(run, backend):
    code, _, err = run("rollback", "1", typed="n\n")
    assert code == 4 and "nothing was done" in err and not applied(backend)


def test_rollback_to_what_is_not_kept(run, backend):
    code, _, err = run("rollback", "7", "--yes")
    assert code == 3 and "kept are 1 to 3" in err and not applied(backend)


def test_what_the_cluster_would_refuse_now_is_not_sent(run, backend):
    backend.config_refusals = ("mail is fencing: wait until that is over",)
    code, _, err = run("rollback", "--yes")
    assert code == 3 and "mail is fencing" in err and not applied(backend)


def test_edit(run, backend):
    code, out, _ = run("edit", "--yes", editor="sed -i s/3s/5s/")
    assert code == 0 and "Applied as revision 4" in out and applied(backend) == [OLD + 'detection = "5s"\n']


def test_edit_without_a_change(run, backend):
    code, out, _ = run("edit", editor="true")
    assert code == 0 and "Nothing was changed" in out and not applied(backend)


def test_edit_with_problems_loses_nothing(run, backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend.problems = ("cluster.detection: is 3 without a unit",)
    code, _, err = run("edit", editor="sed -i s/3s/three/", typed="n\n")
    assert code == 3 and "without a unit" in err and not applied(backend)
    (kept,) = tmp_path.glob("*.toml.edited")
    assert "three" in kept.read_text() and kept.name in err and kept.stat().st_mode & 0o077 == 0


def test_edit_follows_no_link_that_somebody_has_put_there(run, backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "cluster.toml.edited").symlink_to(victim)
    backend.problems = ("cluster.detection: is 3 without a unit",)
    run("edit", editor="sed -i s/3s/three/", typed="n\n")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("words", [["rollback", "--yes"], ["rollback", "3", "--yes"], ["edit", "--yes"]])
def test_what_is_printed_names_the_schema_of_its_own_command(run, words):
    body = json.loads(run(*words, "--json", editor="sed -i s/3s/5s/")[1])
    jsonschema.validate(body, schema(f"config-{words[0]}"))


def test_an_edit_without_a_change_says_so_for_programs_too(run):
    body = json.loads(run("edit", "--yes", "--json", editor="true")[1])
    assert body == {"schema": "hamail/config-edit/1", "result": "done", "changes": [], "revision": 3}
