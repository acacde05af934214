"""``gearsync deploy``: bring functions to every shard, and see them run."""

from __future__ import annotations

from typing import NoReturn

import click

from deploy import output, status, workers
from deploy.backfill import hint
from deploy.options import deploying_options, redis_option
from deploy.output import CommandError
from deploy.progress import Progress
from deploy.reaching.server_errors import ShardError
from deploy.reaching.shards import Shards
from deploy.rollout import kept, plan, report, upgrade, upload
from deploy.rollout.plan import Plan
from deploy.rollout.upgrade import Upgrade
from deploy.workers import WorkerState
from gears.declaring.deployment import Deployment


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@redis_option
@click.option("--name", metavar="NAME", help="The deployment's name, in place of the one in FILE.")
@click.option(
    "--wheels", metavar="DIR", type=click.Path(), help="Upload the wheels in this folder; no index is asked."
)
@deploying_options
def command(
    file: str,
    url: str,
    name: str | None,
    wheels: str | None,
    timeout: float,
    accept_eviction: bool,
    offline: bool,
    only_plan: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Deploy the functions that FILE (functions.py or gearsync.toml) declares to every shard, or to none.

    Everything is checked first, as `gearsync check` does. A deployment of the same name is upgraded: no
    write is lost meanwhile. Ends when the functions run, and prints what runs where.

    What changes is shown first, and what is destructive (a function that goes, another template, table or
    target, another policy, a column that is written no more) is asked about. With --plan the exit code is 0
    when there is nothing to do, and 3 when something would change.
    """
    made = plan.make(
        file, name=name, wheels_folder=wheels, url=url, accept_eviction=accept_eviction, offline=offline
    )
    carry_out(made, file, file, timeout, only_plan, yes, as_json)


def carry_out(
    made: Plan, title: str, file: str, timeout: float, only_plan: bool, yes: bool, as_json: bool
) -> None:
    """Bring what a plan holds, or only show it; ``title`` says in messages where it came from, and ``file``
    what a backfill of it takes.
    """
    deployment, shards = _require_sound(made, title, file, as_json)
    with shards:
        found = upgrade.of(made)
        if only_plan:
            _end_with_plan(found, as_json)
        if found.before and not found.is_empty:
            upgrade.tell(found, err=True)
        upgrade.require_consent(found, yes)
        changed, states = _bring(made, shards, deployment, timeout)
        existing = hint.existing_keys(shards, deployment, made.before)
        is_well = all(each.is_settled and each.state != "failed" for each in states)
        undo = "" if is_well else _way_back(shards, deployment.name)
    if as_json:
        output.as_json({**_document(made, deployment, changed, states), "existing_keys": existing})
    else:
        _print(deployment, changed, states)
        hint.tell(existing, file)
    _require_running(deployment, states, timeout, undo)


def _way_back(shards: Shards, name: str) -> str:
    """Say how to have again what was there before, with all that waits."""
    try:
        versions = kept.find(shards, name)
    except ShardError:
        return "deploy again once all shards answer"
    other = versions.last_other if versions else None
    if other is None:
        return f"`gearsync undeploy {name} --discard` takes it back"
    return f"`gearsync rollback {name}` brings version {other.version} back"


def _end_with_plan(found: Upgrade, as_json: bool) -> NoReturn:
    if as_json:
        output.as_json(upgrade.document(found))
    else:
        upgrade.tell(found, err=False)
    raise SystemExit(0 if found.is_empty else upgrade.EXIT_DIFFERS)


def _require_sound(made: Plan, title: str, file: str, as_json: bool) -> tuple[Deployment, Shards]:
    for warning in made.findings.warnings:
        output.warning(str(warning))
    for sentence in made.findings.not_checked:
        output.warning(sentence)
    if made.deployment is not None and made.shards is not None and not made.mistakes:
        return made.deployment, made.shards
    if as_json:
        output.as_json(report.document(made))
    for mistake in made.mistakes:
        output.status(f"  - {mistake}")
    count = report.counted(len(made.mistakes), "mistake")
    raise CommandError(f"{title} has {count}; nothing was deployed.", report.way_out(made, file))


def _bring(
    made: Plan, shards: Shards, deployment: Deployment, timeout: float
) -> tuple[bool, list[WorkerState]]:
    """Deploy unless it is there already, and wait for the workers; return whether anything was changed."""
    restarts = workers.restarts(shards, deployment.name)
    changed = not (upload.is_deployed_already(made) and _runs(made, shards, deployment))
    with Progress() as progress:
        if changed:
            _send(made, progress)
        else:
            deployment.version = made.before[0][deployment.name].version
        try:
            return changed, _wait(shards, deployment, restarts, timeout, progress)
        except KeyboardInterrupt:
            raise CommandError(
                f"interrupted; {deployment.name} version {deployment.version} is deployed, and its workers "
                "may not run yet.",
                "`gearsync status` shows them.",
            ) from None


def _runs(made: Plan, shards: Shards, deployment: Deployment) -> bool:
    """Return whether the worker of what is deployed already is well on every shard; a new version starts it
    anew.
    """
    version = made.before[0][deployment.name].version
    documents = status.fetch(shards)
    return all(workers.look(each, deployment.name, version).state != "failed" for each in documents)


def _send(made: Plan, progress: Progress) -> None:
    try:
        upload.send(made, progress.show)
    except upload.DeployFailed as error:
        notes = "".join(f" {note[0].upper()}{note[1:]}." for note in error.notes)
        raise CommandError(f"nothing was deployed, because {error}{notes}") from error


def _wait(
    shards: Shards, deployment: Deployment, restarts: dict[str, int], timeout: float, progress: Progress
) -> list[WorkerState]:
    def show(states: list[WorkerState]) -> None:
        open_ones = [f"{each.address} {each.state}{_detail(each)}" for each in states if not each.is_settled]
        if open_ones:
            progress.show(f"Workers: {', '.join(open_ones)}")

    return workers.wait_until_running(shards, deployment.name, deployment.version, restarts, timeout, show)


def _detail(state: WorkerState) -> str:
    return f" ({state.detail})" if state.detail else ""


def _print(deployment: Deployment, changed: bool, states: list[WorkerState]) -> None:
    what = f"{deployment.name} version {deployment.version}"
    where = report.counted(len(states), "shard")
    output.heading(
        f"Deployed {what} to {where}" if changed else f"{what} is deployed already; nothing was changed"
    )
    report.print_functions(deployment)
    output.line()
    if any(each.detail for each in states):
        rows = [(each.address, each.state, each.detail) for each in states]
        output.table(("Shard", "Worker", "Detail"), rows, fold=("Detail",))
    else:
        output.table(("Shard", "Worker"), [(each.address, each.state) for each in states])


def _document(
    made: Plan, deployment: Deployment, changed: bool, states: list[WorkerState]
) -> dict[str, object]:
    return {
        "deployment": deployment.name,
        "version": deployment.version,
        "changed": changed,
        "functions": report.function_documents(deployment),
        "shards": [{"address": each.address, "worker": each.state, "detail": each.detail} for each in states],
        "warnings": report.document(made)["warnings"],
    }


def _require_running(deployment: Deployment, states: list[WorkerState], timeout: float, undo: str) -> None:
    """Say what is left to do where a worker does not run; fail unless it is the user who runs it.

    ``undo`` says how what was done is undone.
    """
    keeps = f"{deployment.name} is deployed: its changes are captured, and wait"
    failed = [each for each in states if each.state == "failed"]
    if failed:
        errors = "; ".join(f"on {each.address} the worker failed: {each.detail}" for each in failed)
        raise CommandError(f"{errors}. {keeps}.", f"put it right and deploy again, or {undo}.")
    late = [each for each in states if not each.is_settled]
    if late:
        errors = "; ".join(f"on {each.address} the worker is {each.state}{_detail(each)}" for each in late)
        hint = f"`gearsync status` shows how it goes on; {undo}."
        raise CommandError(f"after {timeout:g} s {errors}. {keeps}; the worker goes on trying.", hint)
    external = [each for each in states if each.state == "external"]
    if external:
        output.status(
            "The worker is yours to run, one beside each shard: `gearsync worker --deployment "
            f"{deployment.name} "
            "--redis URL`, with the URL of the shard. Until then changes wait."
        )
