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
