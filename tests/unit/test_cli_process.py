"""hamailctl as a process of its own: start-up, following, pipes, a daemon that does not answer."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from control_fake import T0, FakeBackend, serving

from hamail.cli.main import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c.sock"


def hamailctl(path, *words):
    env = {**os.environ, "HAMAIL_SOCKET": str(path), "PYTHONPATH": str(ROOT)}
    return [sys.executable, "-m", "hamail.cli.main", *words], env


def test_start_up_loads_nothing_heavy():
    code = (
        "import sys, hamail.cli.main, hamail.control.client\n"
        "print([m for m in ('aiohttp', 'rich', 'asyncio', 'structlog', 'hamail.core') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_events_follow_prints_what_happens_and_survives_a_restart(backend, path):
    command, env = hamailctl(path, "events", "-f", "--json")
    with serving(backend, path):
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert [json.loads(process.stdout.readline())["index"] for _ in range(3)] == [16, 18, 20]
            runner = CliRunner().invoke(cli, ["--socket", str(path), "clear", "mail"])
            assert runner.exit_code == 0
            assert json.loads(process.stdout.readline())["sentence"] == "failures forgotten"
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(5) == 130
            assert "Traceback" not in process.stderr.read()
            process.stdout.close()
            process.stderr.close()


def test_closed_pipe_is_not_a_traceback(backend, path):
    command, env = hamailctl(path, "events", "-f")
    with serving(backend, path):
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        process.stdout.close()
        CliRunner().invoke(cli, ["--socket", str(path), "clear", "mail"])
        _, err = process.communicate(timeout=5)
        assert process.returncode == 1 and "Traceback" not in err and "Exception" not in err


def test_watch_shows_changes(backend, path):
    command, env = hamailctl(path, "status", "--watch", "--json")
    with serving(backend, path):
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        try:
            assert json.loads(process.stdout.readline())["applied"] == 20
            CliRunner().invoke(cli, ["--socket", str(path), "clear", "mail"])
            assert json.loads(process.stdout.readline())["applied"] == 21
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(5) == 130
            process.stdout.close()


def test_silent_daemon_does_not_hang_the_cli(path, monkeypatch):
    monkeypatch.setattr("hamail.control.client.ANSWER_TIMEOUT_MS", 100)
    monkeypatch.setattr("hamail.control.client.ControlClient.__init__.__defaults__", (str(path), 200))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    result = CliRunner().invoke(cli, ["--socket", str(path), "status"])
    listener.close()
    assert result.exit_code == 1 and "did not answer within 0.2 s" in result.stderr


def test_fake_clock_is_what_the_golden_texts_assume():
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(T0 / 1000)) == "2026-11-18 11:06:40"
