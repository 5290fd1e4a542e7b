"""One message damaged in the stream of each venue: no wrong row is called good that the messages can show."""

import importlib.util
import sys
from pathlib import Path

import pytest

from tasks.venues import directory

PATH = Path(__file__).parents[3] / "bench" / "injections.py"
SPEC = importlib.util.spec_from_file_location("injections", PATH)
injections = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = injections  # its dataclasses look themselves up there
SPEC.loader.exec_module(injections)

TIMES = 25  # of each fault; `python bench/injections.py` does two hundred
NUMBERED_LINES = ("coinbase_advanced",)  # a hole in a connection's numbers may be anybody's loss
OVERLAPPING = ("cut", "digit")  # what cannot be read may be anybody's as well


@pytest.fixture(scope="module", params=directory.VENUES)
def found(request):
    """Return venue and outcomes of all faults on one stream of two markets."""
    venue = request.param
    recorded = injections.record(venue, 330, seed=5)
    return venue, [injections.inject(recorded, fault, 31 * k + i) for i, fault in enumerate(injections.FAULTS) for k in range(TIMES)]


@pytest.mark.slow
def test_no_wrong_row_is_good_where_the_messages_show_the_fault(found):
    venue, outcomes = found
    wrong = [outcome for outcome in outcomes if outcome.wrong and outcome.fault not in injections.HIDDEN[venue]]
    assert wrong == []


@pytest.mark.slow
def test_every_book_is_the_undisturbed_one_again(found):
    venue, outcomes = found
    assert [outcome for outcome in outcomes if not outcome.is_back and outcome.fault not in injections.HIDDEN[venue]] == []


@pytest.mark.slow
def test_only_the_damaged_symbol_begins_anew(found):
    venue, outcomes = found
    if venue not in NUMBERED_LINES:
        assert [outcome for outcome in outcomes if outcome.others and outcome.fault not in OVERLAPPING] == []


@pytest.mark.slow
def test_lost_books_are_noticed_where_books_are_numbered_or_checked(found):
    venue, outcomes = found
    if venue not in ("hyperliquid", "coinbase_exchange"):  # whole books, and books without a number
        assert any(outcome.is_seen for outcome in outcomes if outcome.fault == "drop")


def test_a_lost_update_of_a_book_without_numbers_is_found_wrong():
    recorded = injections.record("coinbase_exchange", 330, seed=5)
    assert any(injections.inject(recorded, "drop", seed).wrong for seed in range(12))
