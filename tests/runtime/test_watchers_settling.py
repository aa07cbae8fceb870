"""When a change is complete: decided from what was seen and when, without a clock or a disk."""

from __future__ import annotations

import pytest

from oneiric.runtime._watch_files import FileState, Look
from oneiric.runtime._watch_settling import Settling

FILE = "/settings/app.yml"
OTHER = "/settings/services.yml"
LINK = "/settings/..data"
PAST = -1.0


def look(digest: str | None = "old", *, size: int = 10, path: str = FILE, other: str | None = None) -> Look:
    files = {path: FileState(way=frozenset({path, LINK}), digest=digest, size=size if digest else 0)}
    if other is not None:
        files[OTHER] = FileState(way=frozenset({OTHER}), digest=other, size=10)
    return Look(files=files)


@pytest.fixture
def settling() -> Settling:
    settling = Settling(0.05, 2.0)
    settling.announced(look(), PAST)
    return settling


def test_what_is_known_already_is_not_news(settling: Settling) -> None:
    settling.note(FILE, "replaced", 0.0)

    assert settling.wait(look(), 0.0, 0.0) is None


def test_a_replaced_file_is_complete_at_once(settling: Settling) -> None:
    settling.note(FILE, "replaced", 0.0)

    assert settling.wait(look("new"), 0.0, 0.0) == 0


def test_a_replaced_link_on_the_way_is_complete_at_once(settling: Settling) -> None:
    settling.note(LINK, "replaced", 0.0)

    assert settling.wait(look("new"), 0.0, 0.0) == 0


def test_a_file_written_in_place_settles_after_the_last_write(settling: Settling) -> None:
    settling.note(FILE, "written", 0.0)

    assert settling.wait(look("new"), 0.0, 0.0) == pytest.approx(0.05)
    settling.note(FILE, "written", 0.04)
    assert settling.wait(look("newer"), 0.04, 0.04) == pytest.approx(0.05)
    assert settling.wait(look("newer"), 0.09, 0.09) == 0


def test_a_file_that_is_still_open_is_waited_for_but_not_for_ever(settling: Settling) -> None:
    settling.note(FILE, "writing", 0.0)

    assert settling.wait(look("half"), 0.0, 0.0) == pytest.approx(2.0)
    assert settling.wait(look("half"), 1.5, 1.5) == pytest.approx(0.5)
    assert settling.wait(look("half"), 2.0, 2.0) == 0


def test_closing_a_file_starts_the_settling(settling: Settling) -> None:
    settling.note(FILE, "writing", 0.0)
    settling.wait(look("half"), 0.0, 0.0)
    settling.note(FILE, "written", 1.0)

    assert settling.wait(look("whole"), 1.0, 1.0) == pytest.approx(0.05)


def test_touching_a_file_does_not_close_it(settling: Settling) -> None:
    settling.note(FILE, "writing", 0.0)
    settling.note(FILE, "touched", 0.5)

    assert settling.wait(look("half"), 0.5, 0.5) == pytest.approx(2.0)


def test_touching_a_replaced_file_leaves_it_complete(settling: Settling) -> None:
    settling.note(FILE, "replaced", 0.0)
    settling.note(FILE, "touched", 0.001)

    assert settling.wait(look("new"), 0.0, 0.001) == 0


@pytest.mark.parametrize("gone", [look(None), look("empty", size=0)], ids=["missing", "emptied"])
def test_a_missing_or_emptied_file_is_taken_for_one_being_written(settling: Settling, gone: Look) -> None:
    settling.note(FILE, "written", 0.0)

    assert settling.wait(gone, 0.0, 0.0) == pytest.approx(2.0)
    settling.note(FILE, "written", 0.3)
    assert settling.wait(look("new"), 0.3, 0.3) == pytest.approx(0.05)


def test_a_file_that_was_replaced_by_an_empty_one_is_complete(settling: Settling) -> None:
    settling.note(FILE, "replaced", 0.0)

    assert settling.wait(look("empty", size=0), 0.0, 0.0) == 0


def test_a_stream_of_writes_is_announced_after_the_longest_wait(settling: Settling) -> None:
    at = 0.0
    while (wait := settling.wait(look(f"{at:.2f}"), at, at)) != 0:
        assert wait is not None
        at += 0.03
        settling.note(FILE, "written", at)

    assert at == pytest.approx(2.0, abs=0.04)


def test_a_change_that_is_taken_back_is_none(settling: Settling) -> None:
    settling.note(FILE, "written", 0.0)
    settling.wait(look("new"), 0.0, 0.0)

    assert settling.wait(look("old"), 0.02, 0.02) is None
    assert settling.wait(look("new"), 5.0, 5.0) == pytest.approx(0.05), "and its time starts anew"


def test_all_files_have_to_be_complete() -> None:
    settling = Settling(0.05, 2.0)
    settling.announced(look(other="old"), PAST)
    settling.note(FILE, "replaced", 0.0)
    settling.note(OTHER, "writing", 0.0)

    assert settling.wait(look("new", other="half"), 0.0, 0.0) == pytest.approx(2.0)


def test_what_was_noticed_after_a_look_began_counts_for_the_next(settling: Settling) -> None:
    settling.note(FILE, "replaced", 1.0)

    assert settling.wait(look(), 0.9, 1.1) is None, "this look was too early to see it"
    assert settling.wait(look("new"), 1.2, 1.2) == 0


def test_a_replacement_counts_once(settling: Settling) -> None:
    settling.note(FILE, "replaced", 0.0)
    settling.wait(look("new"), 0.1, 0.1)
    settling.announced(look("new"), 0.1)

    assert settling.wait(look("newer"), 1.0, 1.0) == pytest.approx(0.05)


def test_where_sight_was_lost_no_file_is_taken_for_open(settling: Settling) -> None:
    settling.note(FILE, "writing", 0.0)
    settling.lost_sight()

    assert settling.wait(look("new"), 1.0, 1.0) == pytest.approx(0.05)


def test_a_file_that_appears_in_a_directory_is_a_change(settling: Settling) -> None:
    settling.note(OTHER, "replaced", 0.0)

    assert settling.wait(look(other="new"), 0.0, 0.0) == 0
