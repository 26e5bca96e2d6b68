"""The harness of tests/seeded_bugs itself; all its bugs are tried by `make seeded-bugs`."""

import pytest

from tests.seeded_bugs import harness as seeded_bugs

seeded_bugs.read_all()
BY_NAME = {bug.name: bug for bug in seeded_bugs.BUGS}


def test_bugs_have_names_of_their_own_and_there_are_enough_of_them():
    assert len(BY_NAME) == len(seeded_bugs.BUGS) >= 30
    assert {bug.room for bug in seeded_bugs.BUGS} == set(seeded_bugs.ROOMS)


def test_every_bug_of_the_data_is_caught_and_the_table_says_by_which_check():
    lines, bugs, found = seeded_bugs.table("data")
    assert bugs == found == sum(bug.room == "data" for bug in seeded_bugs.BUGS)
    assert "| (none) |   |   |   |   |   |   |" in lines
    assert "| every epoch has the same order |   | X |   |   |   |   |" in lines


@pytest.mark.parametrize("name", ["labels are not shifted", "mean of the rows' means"])
def test_a_bug_of_the_loss_is_caught_and_leaves_nothing_behind(name):
    assert "check_closed_form" in seeded_bugs.caught(BY_NAME[name])
    assert not seeded_bugs.failures(seeded_bugs.ROOMS["loss"])


def test_a_bug_that_nothing_notices_is_missed(monkeypatch):
    harmless = seeded_bugs.Bug("harmless", "data", ())
    monkeypatch.setattr(seeded_bugs, "BUGS", [harmless])
    _, bugs, found = seeded_bugs.table("data")
    assert (bugs, found) == (1, 0)
