"""gearsync requirements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click
from packaging.requirements import InvalidRequirement, Requirement

from deploy import output
from deploy.hosts import drivers
from deploy.hosts.bundles import Bundle
from deploy.hosts.packages import Packages
from deploy.hosts.sessions import PREFIX
from deploy.options import json_option, redis_option
from deploy.output import CommandError
from deploy.progress import Progress
from deploy.reaching import shards
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shards
from deploy.rollout import bundle_file
from deploy.rollout.bundle_file import BundleFileError

There = tuple[str, Packages]
"""A shard's address, and its packages."""


@click.group()
def command() -> None:
    """Carry what RedisGears' Python needs to shards that reach no package index.

    `export` it from a RedisGears that does, with the same processor and operating system, and `import` it
    where none is reached; then deploy.
    """


@command.command(name="export")
@click.argument("file", type=click.Path(dir_okay=False, writable=True, path_type=Path))
@click.argument("requirements", nargs=-1, metavar="[REQUIREMENT]...")
@redis_option
@json_option
def export_file(file: Path, requirements: tuple[str, ...], url: str, as_json: bool) -> None:
    """Write requirements with all their wheels from a shard into FILE.

    Without a REQUIREMENT: what deployments have brought there, the drivers among it; all drivers, where
    nothing was deployed yet. What no shard has is fetched by pip on the first one.
    """
    with shards.connect(url) as found, Progress() as progress:
        there = _packages(found)
        wanted = [str(each) for each in map(_parse, requirements)] or _needed(there)
        bundles = [_export(each, there, progress.show) for each in wanted]
    try:
        bundle_file.write(file, bundles)
    except OSError as error:
        raise CommandError(f"{file} can't be written: {error.strerror}.") from error
    _print(f"Exported to {file}", bundles, as_json)


@command.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@redis_option
@json_option
def import_file(file: Path, url: str, as_json: bool) -> None:
    """Bring the requirements in FILE to every shard, and have them installed; Redis serves on meanwhile."""
    try:
        bundles = bundle_file.read(file)
    except BundleFileError as error:
        raise CommandError(
            f"{file} can't be imported: {error}.", "write it by gearsync requirements export."
        ) from error
    except OSError as error:
        raise CommandError(f"{file} can't be read: {error.strerror}.") from error
    with shards.connect(url) as found, Progress() as progress:
        there = _packages(found)
        found.make_ready()
        for bundle in bundles:
            _warn_of_others(bundle, there)
            progress.show(f"Installing {bundle.requirement} on every shard")
            address, packages = there[0]
            with errors_of(address):
                packages.bring(bundle)
    _print(f"Imported to {output.counted(len(there), 'shard')}", bundles, as_json)


def _packages(found: Shards) -> list[There]:
    """Return the address of each shard with its packages."""
    there = []
    for shard in found.shards:
        packages = shard.host.packages
        if packages is None:
            raise CommandError(
                f"Redis at {shard.address} runs functions by gearsync's module, whose workers install their "
                "requirements themselves.",
                "send wheels to workers that reach no package index by gearsync deploy --wheels DIR.",
            )
        there.append((shard.address, packages))
    return there


def _parse(requirement: str) -> Requirement:
    try:
        return Requirement(requirement)
    except InvalidRequirement as error:
        raise click.BadParameter(f"{requirement!r} is not what pip takes.") from error


def _needed(there: Sequence[There]) -> list[str]:
    """Return what gearsync's deployments and drivers have brought to any shard; if nothing, the drivers."""
    known: set[str] = set()
    used: set[str] = set()
    for address, packages in there:
        with errors_of(address):
            known.update(each.requirement for each in packages.known() if each.is_downloaded)
            used.update(packages.used(PREFIX))
    return sorted(each for each in known if each in used or drivers.is_driver(each)) or list(drivers.PINS)


def _export(requirement: str, there: Sequence[There], progress: Callable[[str], None]) -> Bundle:
    for address, packages in there:
        with errors_of(address):
            if any(each.requirement == requirement and each.is_downloaded for each in packages.known()):
                progress(f"Exporting {requirement} from {address}")
                return packages.export(requirement)
    address, packages = there[0]
    with errors_of(address):
        return packages.fetch(requirement, progress)


def _warn_of_others(bundle: Bundle, there: Sequence[There]) -> None:
    """A requirement that a shard has fetched already stays as it is there."""
    for address, packages in there:
        with errors_of(address):
            known = [each for each in packages.known() if each.requirement == bundle.requirement]
        if any(each.is_downloaded and set(each.wheels) != set(bundle.wheels) for each in known):
            output.warning(
                f"{address} has {bundle.requirement} already, with other wheels, and RedisGears keeps those."
            )


def _print(title: str, bundles: Sequence[Bundle], as_json: bool) -> None:
    rows: list[tuple[str, int, int]] = [
        (each.requirement, len(each.wheels), sum(map(len, each.wheels.values()))) for each in bundles
    ]
    if as_json:
        names: tuple[str, ...] = ("requirement", "wheels", "bytes")
        output.as_json([dict(zip(names, row)) for row in rows])
        return
    output.heading(title)
    output.table(("Requirement", "Wheels", "Bytes"), rows)
