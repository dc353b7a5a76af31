"""A read-only SQL shell on the cloud's database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psycopg

from cloud.store.database import described, parameters, translated
from shared.errors import Invalid

Ask = Callable[[str], tuple[list[str], list[tuple[object, ...]]]]


@contextlib.contextmanager
def open_shell(url: str) -> Iterator[Ask]:
    """Give a function that runs one statement and returns column names and rows; it cannot write.

    The function raises Invalid with the server's words for a statement that the server refuses.
    """
    with (
        translated(described(url)),
        psycopg.connect(**parameters(url, "outpost-cloud db"), autocommit=True) as connection,
    ):
        connection.execute("SET default_transaction_read_only = on")
        connection.read_only = True

        def ask(statement: str) -> tuple[list[str], list[tuple[object, ...]]]:
            try:
                with connection.transaction():
                    # prepared, so that it is one statement: a second one could leave the transaction that only reads
                    cursor = connection.execute(statement.encode(), prepare=True)
                    if cursor.description is None:
                        return [], []
                    return [column.name for column in cursor.description], cursor.fetchall()
            except psycopg.Error as error:
                raise Invalid((error.diag.message_primary or str(error)).strip()) from error

        yield ask
