"""The least that must arrive: a rate over a sliding window of waiting."""

from collections import deque

__all__ = ["MinimumRate"]


class MinimumRate:
    """Say how much longer a reader may wait before too little has arrived.

    Only the time that is spent waiting counts, so that a reader who is slow himself blames nobody else. The window
    slides: after a burst a stall is still cut when the burst has left the window.

    Args:
        bytes_per_second: The least, on average over the window.
        window_seconds: The window.
    """

    __slots__ = ("_arrived", "_grain", "_least", "_waited", "_window")

    def __init__(self, bytes_per_second: float, window_seconds: float) -> None:
        self._least = bytes_per_second * window_seconds
        self._window = window_seconds
        self._grain = window_seconds / 64
        self._waited = 0.0
        # (when, how much), one for each grain of time. The first entry is credit: nothing is owed before the first
        # window is over.
        self._arrived: deque[tuple[float, float]] = deque([(0.0, self._least)])

    def received(self, count: int, waited_seconds: float) -> None:
        """Take note of *count* bytes that came after *waited_seconds* of waiting."""
        self._waited += waited_seconds
        when, already = self._arrived[-1]
        if len(self._arrived) > 1 and self._waited - when < self._grain:
            self._arrived[-1] = (when, already + count)
        else:
            self._arrived.append((self._waited, count))
        while len(self._arrived) > 1 and self._arrived[0][0] + self._window < self._waited:
            self._arrived.popleft()

    def allowance_seconds(self) -> float:
        """Return how long the next wait may be; zero when it is too slow already."""
        within = sum(count for _, count in self._arrived)
        if within < self._least:
            return 0.0
        for when, count in self._arrived:
            within -= count
            if within < self._least:
                return max(0.0, when + self._window - self._waited)
        return self._window  # never: without all of its entries nothing is within
