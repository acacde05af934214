"""What is deployed: whether it runs, and what of it needs somebody."""

from __future__ import annotations

import sys
from typing import Any

from deploy import status
from deploy.doctor.findings import Diagnosis
from deploy.pausing import held, paused_targets
from deploy.status import Limits

_NOTHING_FATAL = Limits(max_dead_letters=sys.maxsize)
_ALL = Limits(max_backlog_share=status.NEARLY_FULL)


def check(statuses: list[dict[str, Any]], diagnosis: Diagnosis) -> None:
    """Add what ``gearsync status`` says needs attention; what keeps changes from SQL is an error."""
    place = diagnosis.at("deployments")
    # Keys that fit no template, and letters, leave all else as it is.
    errors = status.attention([_without_missed(each) for each in statuses], _NOTHING_FATAL)
    for sentence in errors:
        place.error(
            "deployment",
            sentence,
            "Changes wait or are missing, so that SQL is behind Redis.",
            "See gearsync status, and the worker's log.",
        )
    _paused(statuses, diagnosis)
    for sentence in status.attention(statuses, _ALL):
        if sentence not in errors:
            place.warn("deployment", sentence, "Rows in SQL are not, or soon not, as Redis has them.")


def _paused(statuses: list[dict[str, Any]], diagnosis: Diagnosis) -> None:
    place = diagnosis.at("deployments")
    for document in statuses:
        for deployment in document.get("deployments", ()):
            targets = zip(paused_targets.of(deployment), paused_targets.sentences(deployment))
            found = [(f"--target {name}", sentence) for name, sentence in targets]
            found += [("--function NAME", sentence) for sentence in held.sentences(deployment)]
            for option, sentence in found:
                place.warn(
                    "pause",
                    f"{deployment['name']} on {document['address']}: {sentence}.",
                    "Its rows in SQL stay as they were, and what is held back takes room in the backlog.",
                    f"gearsync resume {deployment['name']} {option}.",
                )


def _without_missed(document: dict[str, Any]) -> dict[str, Any]:
    deployments = [{**each, "missed": 0} for each in document.get("deployments", ())]
    return {**document, "deployments": deployments}
