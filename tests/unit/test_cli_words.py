"""Times in words."""

import time

from hamail.cli.words import in_local_time


def test_sentences_with_times_are_shown_in_local_time(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        told = in_local_time("Last step (2026-07-22 22:30:00 UTC): n1 runs mail since 2026-11-22 19:59:39 UTC.")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert told == "Last step (2026-07-23 00:30:00): n1 runs mail since 2026-11-22 20:59:39."
