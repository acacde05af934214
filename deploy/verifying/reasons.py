"""Dead letters as the reason of differences."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.letters import store
from deploy.letters.store import Choice
from deploy.reaching.shards import Shards
from deploy.verifying.showing import Outcome


def explain(shards: Shards, outcomes: Sequence[Outcome]) -> None:
    """Give differences the reason of their keys' last dead letters."""
    for outcome in outcomes:
        unclear = {
            store.named(each.key): each
            for each in outcome.counts.named
            if each.key is not None and not each.repaired
        }
        if not unclear:
            continue
        choice = Choice((), tuple(unclear), outcome.source.deployment.name, outcome.source.target.name)
        for letter in store.read(shards, choice):
            if not letter.functions or outcome.source.function.name in letter.functions:
                said = letter.document()["reason"]
                unclear[store.named(letter.key)].reason = f"dead letter: {said}"
