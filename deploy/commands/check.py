"""``gearsync check``: find every mistake, change nothing."""

from __future__ import annotations

import click

from deploy import output
from deploy.options import json_option
from deploy.output import CommandError
from deploy.rollout import plan, report


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--redis",
    "url",
    metavar="URL",
    envvar="GEARSYNC_REDIS",
    show_envvar=True,
    help="Check against this Redis too: other deployments, and every shard's configuration.",
)
@click.option("--name", metavar="NAME", help="The deployment's name, in place of the one in FILE.")
@click.option(
    "--wheels", metavar="DIR", type=click.Path(), help="The folder of wheels that a deploy would upload."
)
@click.option(
    "--accept-eviction", is_flag=True, help="Accept a maxmemory-policy that can evict waiting changes."
)
@click.option("--offline", is_flag=True, help="Do not look at the tables in their databases.")
@json_option
def command(
    file: str,
    url: str | None,
    name: str | None,
    wheels: str | None,
    accept_eviction: bool,
    offline: bool,
    as_json: bool,
) -> None:
    """Check the functions that FILE (functions.py or gearsync.toml) declares, and change nothing.

    Every mistake is named with its place: in the declarations, in the tables as they are in their
    databases, in the requirements, and, with --redis, in what the shards run and how they are configured.
    """
    made = plan.make(
        file, name=name, wheels_folder=wheels, url=url, accept_eviction=accept_eviction, offline=offline
    )
    made.close()
    if as_json:
        output.as_json(report.document(made))
    else:
        if made.deployment is not None:
            count = report.counted(len(made.deployment.functions), "function")
            output.heading(f"Deployment {made.deployment.name}: {count} in {file}")
            report.print_functions(made.deployment)
        report.print_findings(made)
    if made.mistakes:
        count = report.counted(len(made.mistakes), "mistake")
        raise CommandError(f"{file} can't be deployed: {count}.", report.way_out(made, file))
    if not as_json:
        output.line()
        output.line("No mistake was found.")
