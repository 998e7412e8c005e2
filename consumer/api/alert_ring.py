"""The newest alerts, kept once for all who look."""

from collections import Counter, deque

import orjson

from consumer.alert_log import AlertPage, Entry, place_of


class AlertRing:
    """
    The last ``size`` alerts. In a cluster an alert may stand in the stream twice, after a
    crash; the second one is left out by its ``prediction_id``.
    """

    size = 1_000

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._reasons: deque[tuple[str, ...]] = deque(maxlen=self.size)
        self._known: dict[str, None] = {}
        self._reach = ""
        self.tip: str | None = None

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._entries)

    def begin(self, page: AlertPage) -> None:
        """Start with the newest alerts of the stream."""
        self._reach = page.entries[0].cursor if page.entries else page.cursor
        self._take(page)

    def add(self, page: AlertPage) -> bool:
        """
        Take over what came after the tip; return whether that is anything.

        Where the stream lost what came next, older cursors are no longer answered here, so
        that whoever asks from one learns of it from the stream.
        """
        if page.lost:
            self._entries.clear()
            self._reach = page.entries[0].cursor if page.entries else page.cursor
        self._take(page)
        return bool(page.entries) or page.lost

    def after(self, cursor: str | None, first: int) -> AlertPage | None:
        """
        Return what came after *cursor*, or the *first* newest where it is None.

        None where this reaches not so far back.
        """
        if self.tip is None:
            return None
        if cursor is None:
            newest = list(self._entries)[-first:] if first else []
            return AlertPage(tuple(newest), self.tip)
        if cursor == self.tip:
            return AlertPage((), cursor)
        place = place_of(cursor)
        if not place_of(self._reach) <= place <= place_of(self.tip):
            return None
        newer = tuple(each for each in self._entries if place_of(each.cursor) > place)
        return AlertPage(newer, self.tip)

    def top_reasons(self, number: int) -> list[tuple[str, int]]:
        """Return the most frequent reasons of the alerts that are kept, and how often each is."""
        return Counter(each for reasons in self._reasons for each in reasons).most_common(number)

    def _take(self, page: AlertPage) -> None:
        self.tip = page.cursor
        for entry in page.entries:
            alert = orjson.loads(entry.alert)
            if alert["prediction_id"] in self._known:
                continue
            self._known[alert["prediction_id"]] = None
            self._entries.append(entry)
            self._reasons.append(tuple(alert["reasons"]))
        while len(self._entries) > self.size:
            self._reach = self._entries.popleft().cursor
        while len(self._known) > 10 * self.size:
            del self._known[next(iter(self._known))]
