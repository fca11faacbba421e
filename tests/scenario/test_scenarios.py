"""Every *.txt beside this file is a story about a cluster: it must go as it says.

HAMAIL_REWRITE=1 writes what was truly printed into the files; read the difference before you commit it.
"""

import os
from pathlib import Path

import pytest

from hamail.simulation.script import Script

FOLDER = Path(__file__).parent
STORIES = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=lambda p: p.stem)
def test_story(story):
    text = story.read_text()
    printed = Script().run(text)
    if os.environ.get("HAMAIL_REWRITE"):
        story.write_text(printed)
        return
    assert printed == text


def test_there_are_stories():
    assert len(STORIES) >= 30
