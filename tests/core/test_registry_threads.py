"""Threads that read while others register see whole revisions only."""

import sys
import threading
from collections.abc import Iterator

import pytest

from oneiric.core.resolution import Candidate, Resolver


@pytest.fixture
def eager_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def pair(number: int) -> list[Candidate]:
    """Two candidates that always come together; what they are of says which pair it is."""
    return [
        Candidate(domain="task", key=key, provider=f"p{number}", factory=dict, origin="pairs")
        for key in ("left", "right")
    ]


@pytest.mark.usefixtures("eager_switches")
def test_a_reader_never_sees_half_a_revision() -> None:
    resolver = Resolver()
    resolver.apply(add=pair(0))
    done = threading.Event()
    torn: list[tuple[str | None, str | None]] = []
    looks = 0

    def read() -> None:
        nonlocal looks
        while not done.is_set():
            view = resolver.view("task")
            left, right = view.get("left"), view.get("right")
            looks += 1
            if (left and left.provider) != (right and right.provider):
                torn.append((left and left.provider, right and right.provider))  # type: ignore[arg-type]  # for the message

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()

    def write(start: int) -> None:
        for number in range(start, start + 150):
            resolver.apply(add=pair(number), withdraw=["pairs"] if number % 3 == 0 else [])

    writers = [threading.Thread(target=write, args=(start,)) for start in (1000, 2000)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    for reader in readers:
        reader.join()
    assert torn == []
    assert looks > 0
    assert resolver.revision == 301


def test_the_journal_has_the_order_of_the_revisions() -> None:
    stopped, may_go_on = threading.Event(), threading.Event()
    slow: list[threading.Thread] = []

    def clock() -> float:
        if threading.current_thread() in slow:
            stopped.set()
            may_go_on.wait(10)
        return 0.0

    resolver = Resolver(clock=clock)

    def register(number: int) -> threading.Thread:
        return threading.Thread(target=resolver.apply, args=(pair(number),))

    first, second = register(1), register(2)
    slow.append(first)
    first.start()
    stopped.wait(10)
    second.start()
    second.join(0.05)  # where it need not wait for the first one it ends in that time
    may_go_on.set()
    for thread in (first, second):
        thread.join()
    winner = resolver.get("task", "left")
    assert winner is not None
    assert resolver.journal.at(0.0, "task", "left").provider == winner.provider
    assert [entry.revision for entry in resolver.journal] == [1, 1, 2, 2]
