"""The process that commits the writes of waiting clients (through.py), many in one transaction."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from typing import IO, Any

import connectors
from connectors import Connector, ConnectorError, Position, Unavailable
from gears.applying import change as changes
from gears.applying import failpoints
from gears.applying.applier import Applier
from gears.applying.deadletters import Letter
from gears.applying.groups import Groups, limits_of
from gears.applying.intents import intents_of, outcomes_of
from gears.applying.report import TargetReport
from gears.declaring.deployment import Deployment
from gears.redisgears import frames


class Committer:
    """Serves Redis' process: ``open`` a stream, then ``commit`` group after group."""

    def __init__(self, deployment: Deployment, target: str) -> None:
        self._deployment = deployment
        self._target = target
        self._transforms = deployment.transforms()
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._connector: Connector | None = None
        self._groups: Groups | None = None
        self._report = TargetReport()

    def open(self, stream: str, epoch: int, shard: str, applied: Sequence[int] | None) -> tuple[Any, ...]:
        """Take the stream over for a shard (Shard.who), after the transaction of who had it.

        Returns the transactions behind ``applied`` (none, where Redis knows of none yet), the position of the
        last, and whether another life of the shard has taken the stream in this epoch.
        """
        self.close()
        target = self._deployment.targets[self._target]
        connector = self._connector = connectors.connect(
            target.resolve(), target.schema, **limits_of(self._deployment)
        )
        applier = Applier(connector, self._deployment, self._target, self._transforms, self._report, _bury)
        connector.ensure_intents()
        applier.open(stream, epoch, f"{self._name}@{shard}")
        last = connector.last_intent(stream)
        self._groups = Groups(connector, applier, last)
        done = [] if applied is None else connector.committed(stream, Position(*applied))
        return (
            [
                (
                    tuple(each.position),
                    None if each.previous is None else tuple(each.previous),
                    [tuple(outcome) for outcome in outcomes_of(each.record)],
                )
                for each in done
            ],
            None if last is None else tuple(last),
            applier.claimed.is_doubled,
        )

    def commit(self, entries: list[Any]) -> tuple[Any, ...]:
        """Commit a group; return what was refused, by its id, with the reason."""
        assert self._groups is not None  # noqa: S101 (for mypy)
        intents = intents_of(changes.decode([(each[0], each[1]) for each in entries])[0])
        failpoints.reach("taken")
        outcomes = self._groups.commit(intents, intents[-1].entries[-1].position)
        failpoints.reach("after-commit")
        return ({each.id: each.reason for each in outcomes if each.reason},)

    def prune(self) -> None:
        """Forget old records, now and then."""
        if self._groups is not None:
            self._groups.prune()

    def close(self) -> None:
        """Forget the connection and the claim."""
        self._groups = None
        connector, self._connector = self._connector, None
        if connector is not None:
            connector.close()


def _bury(letters: Sequence[Letter]) -> Sequence[str]:
    raise AssertionError("writes of waiting clients make no dead letters")


def main(requests: IO[bytes]) -> None:
    """Be that process: first comes the deployment, then request after request."""
    payload, target = frames.receive(requests)
    answers = frames.answers()
    committer = Committer(Deployment.from_payload(payload), target)
    for what, *content in frames.each(requests):
        _serve(committer, answers, what, content)


def _serve(committer: Committer, answers: IO[bytes], what: str, content: list[Any]) -> None:
    """Answer with an error (empty: none), whether a COMMIT may be done all the same, and the result."""
    try:
        result = committer.open(*content) if what == "open" else committer.commit(*content)
    except Exception as error:
        said = str(error) if isinstance(error, ConnectorError) else f"{type(error).__name__}: {error}"
        committer.close()
        frames.send(answers, "done", said, isinstance(error, Unavailable) and error.in_commit, ())
        return
    frames.send(answers, "done", "", False, result)
    try:
        committer.prune()
    except ConnectorError:
        # The next group meets the same, and says so.
        committer.close()
