"""gearsync doctor."""

from __future__ import annotations

import click

from deploy import options, output, sources
from deploy.doctor import shards, showing, targets
from deploy.doctor.findings import ERROR, WARNING, Diagnosis


@click.command(name="doctor")
@click.argument("file", type=click.Path(exists=True, dir_okay=False), required=False)
@options.redis_option
@options.json_option
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
def command(file: str | None, url: str, as_json: bool, strict: bool) -> None:
    """Look for what endangers data: in Redis, in what is deployed, in the databases. Nothing is changed.

    Each shard's version, AOF and snapshots, memory and eviction, replicas, cluster, clock and users; whether
    workers run, and what waits or was refused; in each database the tables of the functions, rights, what a
    crash loses, and settings that cut or merge values. The databases are those of FILE (functions.py or
    gearsync.toml), else those of what is deployed, as far as their references lead anywhere from here.

    An error loses data or keeps it from SQL now, a warning will when something else goes wrong. The exit
    code is 1 when there is an error. The JSON is an object: "ok", "looked_at", and "findings", a list of
    objects with severity, check, place, what, why and todo.
    """
    declared = None if file is None else sources.load(file, None)
    diagnosis = Diagnosis()
    deployed = shards.check(url, diagnosis)
    for each in deployed if declared is None else [declared]:
        targets.check(each, file or f"the deployment {each.name}", diagnosis)
    if as_json:
        output.as_json(diagnosis.document())
    else:
        showing.print_diagnosis(diagnosis)
    if diagnosis.of(ERROR) or (strict and diagnosis.of(WARNING)):
        raise click.exceptions.Exit(1)
