"""The SDK: parameters, dispatch, exit codes, meta-data, deadlines, processes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from agents_support import NAMES, call, load, need

from hamail.ocf.agent import Action, Agent, Call
from hamail.ocf.codes import Code, Failure
from hamail.ocf.deadline import ProbeFailed, ProbeHung, run_with_deadline
from hamail.ocf.parameters import Kind, Parameter, absolute_path, parse
from hamail.ocf.process import Process, ancestors, find, from_pid_file, own, send, wait_gone

PARAMETERS = (
    Parameter(name="path", short="a path", required=True, check=absolute_path),
    Parameter(name="count", short="a number", kind=Kind.INTEGER, default="3", minimum=1),
    Parameter(name="flag", short="a switch", kind=Kind.BOOLEAN, default="no"),
    Parameter(name="type", short="a choice", default="ext4", choices=("ext4", "xfs")),
)


def test_parameters_are_typed_and_have_defaults() -> None:
    values = parse(PARAMETERS, {"OCF_RESKEY_path": "/x", "OCF_RESKEY_flag": "Yes"})
    assert values == {"path": "/x", "count": 3, "flag": True, "type": "ext4"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "'path' (a path) is missing"),
        ({"OCF_RESKEY_path": "relative"}, "must be an absolute path"),
        ({"OCF_RESKEY_path": "/a/../b"}, "must not contain '..'"),
        ({"OCF_RESKEY_path": "/a\nb"}, "one line"),
        ({"OCF_RESKEY_path": "/x", "OCF_RESKEY_count": "0"}, "at least 1"),
        ({"OCF_RESKEY_path": "/x", "OCF_RESKEY_count": "3x"}, "whole number"),
        ({"OCF_RESKEY_path": "/x", "OCF_RESKEY_flag": "maybe"}, "yes or no"),
        ({"OCF_RESKEY_path": "/x", "OCF_RESKEY_type": "zfs"}, "ext4, xfs"),
    ],
)
def test_bad_parameters_are_refused_by_name(environ: dict[str, str], words: str) -> None:
    with pytest.raises(Failure) as caught:
        parse(PARAMETERS, environ)
    assert caught.value.code is Code.CONFIGURED
    assert words in caught.value.reason


def agent(run) -> Agent:
    action = Action(run=run, timeout_s=7)
    return Agent(
        name="t", version="1", short="s", long="l", parameters=PARAMETERS, start=action, stop=action, monitor=action,
        validate=action,
    )  # fmt: skip


def test_failure_becomes_code_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    def run(call: Call) -> None:
        raise Failure(Code.GENERIC, f"no good at {call.text('path')}")

    assert agent(run).main(["t", "start"], {"OCF_RESKEY_path": "/x"}) == 1
    assert "ocf-exit-reason:no good at /x\n" in capsys.readouterr().err


def test_unforeseen_os_error_is_never_success_or_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    def run(call: Call) -> None:
        raise OSError(5, "Input/output error")

    assert agent(run).main(["t", "monitor"], {"OCF_RESKEY_path": "/x"}) == 1
    assert "outcome unknown" in capsys.readouterr().err


def test_unknown_action_is_3_even_with_bad_parameters() -> None:
    assert agent(lambda call: None).main(["t", "promote"], {}) == 3
    assert agent(lambda call: None).main(["t"], {}) == 3


def test_only_interval_zero_on_monitor_is_a_probe() -> None:
    def asks(action: str, interval: str | None) -> bool:
        seen = []
        environ = {"OCF_RESKEY_path": "/x"}
        if interval is not None:
            environ["OCF_RESKEY_CRM_meta_interval"] = interval
        agent(lambda call: seen.append(call.probe)).main(["t", action], environ)
        return seen[0]

    assert asks("monitor", "0")
    assert not asks("monitor", "10000")
    assert not asks("start", "0")


def test_timeout_comes_from_the_caller_else_from_the_meta_data() -> None:
    seen = []
    environ = {"OCF_RESKEY_path": "/x", "OCF_RESKEY_CRM_meta_timeout": "3000"}
    for given in (environ, {"OCF_RESKEY_path": "/x"}):
        agent(lambda call: seen.append(call.timeout_ms)).main(["t", "start"], given)
    assert seen == [3000, 7000]


@pytest.mark.parametrize("name", NAMES)
def test_meta_data_is_valid(name: str) -> None:
    need("xmllint")
    answer = call(load(name), "meta-data")
    assert answer.code == 0
    for schema in (["--valid"], ["--relaxng", "metadata.rng"]):
        done = subprocess.run(
            ["xmllint", "--nonet", "--noout", *schema, "-"],
            check=False,
            input=answer.out,
            text=True,
            capture_output=True,
            cwd="/usr/share/resource-agents",
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_meta_data_is_the_same_without_any_environment(name: str) -> None:
    assert load(name).main(["x", "meta-data"], {}) == 0


@pytest.mark.parametrize("name", NAMES)
def test_importing_an_agent_has_no_effect_and_unknown_actions_are_3(name: str) -> None:
    before = os.listdir("/proc/self/fd")
    answer = call(load(name), "promote")
    assert (answer.code, answer.out) == (3, "")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_deadline_gives_answer_error_and_hang() -> None:
    assert run_with_deadline(lambda: "fine", 5) == "fine"

    def broken() -> str:
        raise OSError(5, "Input/output error")

    with pytest.raises(ProbeFailed, match="Input/output error"):
        run_with_deadline(broken, 5)
    began = time.monotonic()
    with pytest.raises(ProbeHung):
        run_with_deadline(lambda: time.sleep(30) or "", 0.1)
    assert time.monotonic() - began < 2


def test_hung_child_holds_none_of_our_pipes() -> None:
    """The executor waits for the end of an agent's output: a child stuck on dead storage must not hold it open."""
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    seen = run_with_deadline(lambda: " ".join(sorted(os.listdir("/proc/self/fd"), key=int)), 5)
    targets = [int(n) for n in seen.split()]
    assert write_end not in targets
    assert read_end not in targets
    os.close(read_end)
    os.close(write_end)


def test_child_that_dies_is_a_failure() -> None:
    with pytest.raises(ProbeFailed):
        run_with_deadline(lambda: os.kill(os.getpid(), signal.SIGKILL) or "", 5)


def test_recycled_pid_is_not_the_same_process() -> None:
    with subprocess.Popen(["sleep", "30"]) as child:
        real = find(child.pid)
        assert real is not None
        other = Process(child.pid, real.start_ticks + 1)
        assert real.alive()
        assert not other.alive()
        send([other], signal.SIGKILL)
        assert child.poll() is None
        send([real], signal.SIGKILL)
        assert wait_gone([real], 2) == []


def test_pid_file_of_another_program_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{os.getpid()}\n")
    assert from_pid_file(path, "/usr/sbin/dovecot") is None
    assert from_pid_file(path, own().exe()) == own()
    path.write_text("garbage")
    assert from_pid_file(path, own().exe()) is None


def test_ancestors_hold_us_and_pid_1() -> None:
    assert {1, os.getpid(), os.getppid()} <= ancestors()
