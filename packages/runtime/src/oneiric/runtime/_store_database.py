"""What work on a store is given: statements, and nothing that could end its transaction."""

from collections.abc import Iterable
from typing import Any

from oneiric.runtime._store_library import Connection, Parameters

__all__ = ["Database"]


class Database:
    """Run statements of a transaction that somebody else begins and commits.

    Belongs to the thread of its store; it must not outlive the call it was handed to.

    Args:
        connection: Of either library.
        opening: A number that no other connection of this process has.
    """

    __slots__ = ("_execute", "_execute_many", "_opening")

    def __init__(self, connection: Connection, opening: int = 0) -> None:
        cursor = connection.cursor()
        self._execute, self._execute_many = cursor.execute, cursor.executemany
        self._opening = opening

    def execute(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows.

        Args:
            sql: The statement; values never belong into it.
            parameters: What its ``?`` stand for, in order, or its ``:names``.
        """
        rows: list[tuple[Any, ...]] = self._execute(sql, parameters).fetchall()
        return rows

    def execute_many(self, sql: str, parameters: Iterable[Parameters]) -> None:
        """Run one statement once for each of *parameters*."""
        self._execute_many(sql, parameters)

    @property
    def changes(self) -> int:
        """How many rows the last INSERT, UPDATE or DELETE changed."""
        return int(self._execute("SELECT changes()").fetchall()[0][0])

    def data_version(self) -> int:
        """Return a number that changes when another connection commits, or the file was opened anew.

        What this connection commits does not change it.
        """
        return self._opening << 32 | int(self._execute("PRAGMA data_version").fetchall()[0][0])
