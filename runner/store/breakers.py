"""Circuit breakers that all workers share."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, select, update

from runner.domain import Breaker
from runner.store.database import Database, insert_if_new
from runner.store.documents import to_json
from runner.store.schema import breakers

T = TypeVar("T")

_AS_NEW = Breaker()


class SqlBreakerStore:
    """Implements ports.BreakerStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def update(self, name: str, step: Callable[[Breaker], tuple[Breaker, T]]) -> T:
        """See ports.BreakerStore.

        Most steps change nothing, before and after each attempt of every worker: a look is enough
        for these, and nobody waits for anybody.
        """
        seen = self._database.read(lambda connection: _seen(connection, name))
        unchanged, told = step(seen)
        return told if unchanged == seen else self._write(name, step)

    def _write(self, name: str, step: Callable[[Breaker], tuple[Breaker, T]]) -> T:
        update_id = secrets.token_hex(8)
        results: list[T] = []

        def work(connection: Connection) -> T:
            before, last_update = _locked(connection, name)
            if last_update == update_id:  # it was written, and only the reply was lost
                return results[-1]
            after, result = step(before)
            results.append(result)
            if after != before:
                _write(connection, name, update_id, after)
            return result

        return self._database.write(work)

    def all(self) -> dict[str, Breaker]:
        """See ports.BreakerStore."""
        query = select(breakers.c.name, breakers.c.document).order_by(breakers.c.name)
        rows = self._database.read(lambda connection: connection.execute(query).all())
        found = {row.name: Breaker.model_validate_json(row.document) for row in rows}
        return {name: breaker for name, breaker in found.items() if breaker != _AS_NEW}


def _seen(connection: Connection, name: str) -> Breaker:
    document = connection.scalar(select(breakers.c.document).where(breakers.c.name == name))
    return _AS_NEW if document is None else Breaker.model_validate_json(document)


def _locked(connection: Connection, name: str) -> tuple[Breaker, str]:
    """The breaker and who wrote it last, the row locked until the transaction ends."""
    new = {"name": name, "update_id": "", "document": to_json(_AS_NEW)}
    query = select(breakers).where(breakers.c.name == name).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        insert_if_new(connection, breakers, new)
        row = connection.execute(query).one()
    return Breaker.model_validate_json(row.document), row.update_id


def _write(connection: Connection, name: str, update_id: str, breaker: Breaker) -> None:
    connection.execute(
        update(breakers)
        .where(breakers.c.name == name)
        .values(update_id=update_id, document=to_json(breaker))
    )
