"""Row changes that are sent together, with the queries that must be answered first."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any

from .catalogue import Table
from .groups import Group, Plan, Route
from .inquiries import Inquiries
from .matching import TooSlow, Values
from .pgoutput import RowChange, Transaction
from .visibility import Answer

_CHUNK = 1000
"""Changes between two looks at other clients."""

Pieces = list[tuple[Transaction, list[RowChange]]]
"""Transactions, or parts of one, that go out together, so that one question to Postgres covers all of them."""


class Parcel:
    """Changes that go out together, with the questions to Postgres about them and the answers."""

    def __init__(self, pieces: Pieces, routes: dict[int, Route]) -> None:
        """`routes`: by the identity of the relation's object."""
        self.pieces = pieces
        self.routes = routes
        self.size = sum(len(changes) for _, changes in pieces)
        self.values: dict[int, dict[int, Values]] = {}
        self.answers: dict[int, asyncio.Future[Answer]] = {}
        self.compared: dict[int, list[asyncio.Future[None]]] = {}
        self._groups: dict[Group, list[tuple[int, Plan]]] | None = None

    def start_inquiries(self, inquiries: Inquiries) -> None:
        """Starts the questions to Postgres that must be answered before these changes can go out."""
        for mark, route in self.routes.items():
            if not route.restricted and not route.tests:
                continue
            changes = list(enumerate(chain.from_iterable(changes for _, changes in self.pieces)))
            if route.tests:
                values = self.values[mark] = route.values(changes)
                open_tests = [(test, unknown) for test in route.tests if (unknown := test.unknown(values.values()))]
                if open_tests:
                    self.compared[mark] = [inquiries.compare(test, unknown) for test, unknown in open_tests]
            rows = route.versions(changes) if route.restricted else None
            if rows:
                xids = {transaction.xid for transaction, _ in self.pieces}
                answer = inquiries.visible(route.table, route.callers(), rows, xids, strict=route.strict)
                self.answers[mark] = answer

    @property
    def has_inquiries(self) -> bool:
        """Whether there were any questions to Postgres."""
        return bool(self.answers or self.compared)

    def awaited(self, mark: int | None = None) -> list[asyncio.Future[Any]]:
        """The questions without an answer yet, about one relation or all."""
        marks = self.routes if mark is None else (mark,)
        futures: list[asyncio.Future[Any]] = [self.answers[mark] for mark in marks if mark in self.answers]
        for mark in marks:
            futures += self.compared.get(mark, ())
        return [future for future in futures if not future.done()]

    def awaited_by(self, group: Group) -> list[asyncio.Future[Any]]:
        """Those of `awaited` that the group's changes depend on."""
        found: list[asyncio.Future[Any]] = []
        for mark, plan in self.groups().get(group, ()):
            if plan.restricted and mark in self.answers:
                found.append(self.answers[mark])
            if plan.target.filtered:
                found += self.compared.get(mark, ())
        return [future for future in found if not future.done()]

    def problem(self, group: Group) -> Table | TooSlow | None:
        """Why the group cannot be served, once all is known: the table that could not be asked about, or a filter."""
        for mark, plan in self.groups().get(group, ()):
            answer = self.answers.get(mark)
            if plan.restricted and answer is not None and group.identity not in answer.result().shown:
                return self.routes[mark].table
            for future in self.compared.get(mark, ()) if plan.target.filtered else ():
                error = future.exception()
                if error is not None:
                    return error if isinstance(error, TooSlow) else self.routes[mark].table
        return None

    def distrusted(self) -> list[Table]:
        """The tables whose grants or policies turned out to have changed."""
        marks = [mark for mark, answer in self.answers.items() if answer.done() and answer.result().changed]
        return [self.routes[mark].table for mark in marks]

    def groups(self) -> dict[Group, list[tuple[int, Plan]]]:
        """Those that get something, each with its plans."""
        if self._groups is None:
            self._groups = {}
            for mark, route in self.routes.items():
                for plan in route.plans:
                    self._groups.setdefault(plan.target.group, []).append((mark, plan))
        return self._groups

    def plans(self, groups: Collection[Group] | None) -> dict[int, list[tuple[Plan, Collection[int] | None]]]:
        """The plans of these groups, or of all; each with the versions that may be seen by number, None for all."""
        return {
            mark: [
                (plan, self._shown(mark, plan))
                for plan in route.plans
                if not plan.target.group.suspended and (groups is None or plan.target.group in groups)
            ]
            for mark, route in self.routes.items()
        }

    def _shown(self, mark: int, plan: Plan) -> Collection[int] | None:
        if not plan.restricted:
            return None
        answer = self.answers.get(mark)
        return answer.result().shown.get(plan.target.group.identity, ()) if answer is not None else ()


def gathered(batch: Iterable[Transaction]) -> Iterator[list[Transaction]]:
    """Small ones that wait together; a long one, and each part of one but the last, ends its group."""
    group: list[Transaction] = []
    size = 0
    for transaction in batch:
        if group and size + len(transaction.changes) > _CHUNK:
            yield group
            group, size = [], 0
        group.append(transaction)
        size += len(transaction.changes)
        if not transaction.last:
            yield group
            group, size = [], 0
    if group:
        yield group


def chunks(group: list[Transaction]) -> Iterator[Pieces]:
    """Parts of what goes out together, none with more than a thousand changes."""
    if len(group) > 1:
        yield [(transaction, transaction.changes) for transaction in group]
        return
    (transaction,) = group
    for start in range(0, len(transaction.changes), _CHUNK):
        yield [(transaction, transaction.changes[start : start + _CHUNK])]
