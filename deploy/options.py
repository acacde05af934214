"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import click

redis_option = click.option(
    "--redis",
    "url",
    metavar="URL",
    default="redis://127.0.0.1:6379",
    envvar="GEARSYNC_REDIS",
    show_default=True,
    show_envvar=True,
    help=(
        "Where Redis is: redis://, rediss://, unix://, any node of a cluster, or "
        "redis+sentinel://host:port[,host:port]/service. A password is best given by the variable."
    ),
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
