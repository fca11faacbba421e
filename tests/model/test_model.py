"""The model of the lease protocol: as built it is safe with each kind of fault, and each planted mistake shows."""

import os
import warnings

import pytest

from tests.model import check
from tests.model.variants import VARIANTS, Variant

STATES_MIN = 5_000_000


@pytest.fixture(scope="module")
def verdicts() -> dict[str, check.Verdict]:
    if lacking := check.missing():
        assert os.environ.get("CI") != "true", f"the model cannot be checked: {', '.join(lacking)} missing"
        warnings.warn(f"THE MODEL WAS NOT CHECKED: {', '.join(lacking)} missing (tools/setup.sh tests)", stacklevel=1)
        pytest.skip(f"the model was not checked: {', '.join(lacking)} missing")
    found = check.check_all()
    print("\n" + check.table(found))
    return found


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_variant(verdicts: dict[str, check.Verdict], variant: Variant) -> None:
    assert verdicts[variant.name].found == variant.expected, (
        f"{variant.name} ({variant.what}): {verdicts[variant.name]}"
    )


def test_enough_states_were_searched(verdicts: dict[str, check.Verdict]) -> None:
    assert sum(verdicts[v.name].states for v in VARIANTS if v.expected == "safe") >= STATES_MIN


def test_a_search_that_was_cut_short_is_no_proof() -> None:
    whole = "depth reached 9, errors: 0\n   12 states, stored\n"
    assert check.read(whole).found == "safe"
    assert check.read("error: max search depth too small\n" + whole).found == "search not complete"
    assert check.read("Warning: Search not completed\n" + whole).found == "search not complete"
    assert check.read("").found.startswith("no result")
