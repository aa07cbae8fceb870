"""Topics and their patterns: which subscriptions an event of a topic concerns.

A topic is a list of segments parted by dots. In a pattern ``*`` stands for one segment and ``**`` for any number of
them, none included. Patterns are compiled into a tree of segments, and what a topic matches is remembered: the cost
of an event does not grow with the number of topics anybody subscribed to.
"""

import re
from collections.abc import Hashable, Iterable
from typing import Final

from oneiric.core.errors import DispatchError

__all__ = ["TopicIndex", "check_pattern", "check_topic"]

_SEGMENT = re.compile(r"[A-Za-z0-9_:/@+-]+\Z")
_MOST_CHARACTERS: Final = 255
_ONE: Final = "*"
_ANY: Final = "**"


def check_topic(topic: str) -> str:
    """Return a topic that is well formed.

    Raises:
        DispatchError: It is empty, too long, has an empty segment or a character that is not allowed.
    """
    return _checked(topic, "topic", ())


def check_pattern(pattern: str) -> str:
    """Return a pattern that is well formed.

    Raises:
        DispatchError: It is empty, too long, has an empty segment, or ``*`` inside one.
    """
    return _checked(pattern, "topic pattern", (_ONE, _ANY))


def _checked(text: str, what: str, wild: tuple[str, ...]) -> str:
    if not 0 < len(text) <= _MOST_CHARACTERS:
        raise DispatchError(f"a {what} is a text of 1 to {_MOST_CHARACTERS} characters, not {str(text)[:60]!r}")
    for segment in text.split("."):
        if segment not in wild and not _SEGMENT.match(segment):
            raise DispatchError(f"segment {segment!r} of {what} {text!r} is not allowed", "orders.created")
    return text


class _Node[T: Hashable]:
    __slots__ = ("below", "here")

    def __init__(self) -> None:
        self.below: dict[str, _Node[T]] = {}
        self.here: list[T] = []


class TopicIndex[T: Hashable]:
    """Subscriptions by pattern.

    Args:
        entries: Pattern → subscription; a subscription may stand under several.
    """

    def __init__(self, entries: Iterable[tuple[str, T]] = ()) -> None:
        self._root: _Node[T] = _Node()
        for pattern, entry in entries:
            node = self._root
            for segment in check_pattern(pattern).split("."):
                node = node.below.setdefault(segment, _Node())
            node.here.append(entry)

    def match(self, topic: str) -> set[T]:
        """Return the subscriptions that an event of *topic* concerns."""
        found: set[T] = set()
        segments = topic.split(".")
        # (node, place) pairs already walked: `**` beside `**` would otherwise be walked again and again.
        seen: set[tuple[int, int]] = set()
        waiting = [(self._root, 0)]
        while waiting:
            node, place = waiting.pop()
            if (id(node), place) in seen:
                continue
            seen.add((id(node), place))
            if place == len(segments):
                found.update(node.here)
            else:
                below = (node.below.get(name) for name in (segments[place], _ONE))
                waiting.extend((each, place + 1) for each in below if each is not None)
            if (any_below := node.below.get(_ANY)) is not None:
                waiting.extend((any_below, further) for further in range(place, len(segments) + 1))
        return found
