"""The pictures of the documentation are those of the code's own tables."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import diagrams

from hamail.core.transitions import ROWS
from hamail.model.state import Phase


def test_every_row_of_the_table_has_an_arrow():
    assert not diagrams.undrawn()


def test_every_arrow_stands_for_a_row_and_every_phase_has_a_place():
    assert all(diagrams.events(edge) for edge in diagrams.EDGES)
    assert set(diagrams.PLACES) == {str(p) for p in Phase}


def test_the_pictures_are_current():
    assert not diagrams.stale(), "make diagrams"


def test_the_picture_is_one_and_says_every_event():
    picture = ET.fromstring(diagrams.svg())
    text = " ".join(t.text for t in picture.iter("{http://www.w3.org/2000/svg}text"))
    assert all(str(row.event) in text and str(row.phase) in text for row in ROWS)
