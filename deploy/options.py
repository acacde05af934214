"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from gears.worker.listening import host_and_port


class Number(click.FloatRange):
    """A number within a range. NaN, which Python reads as a number, is within none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises click's BadParameter."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


def place(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Read HOST:PORT, for an option's ``callback``."""
    try:
        return None if value is None else host_and_port(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", ctx, param) from error


def redis_option_as(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option --redis, whose value the command takes as its argument ``name``."""
    return click.option(
        "--redis",
        name,
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


redis_option = redis_option_as("url")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
metrics_option = click.option(
    "--metrics-listen",
    metavar="HOST:PORT",
    callback=place,
    help="Where Prometheus may ask for metrics; there is no login.",
)

_DEPLOYING = (
    click.option(
        "--timeout",
        metavar="S",
        type=Number(min=0),
        default=120,
        show_default=True,
        help="How many seconds the workers may take until they run.",
    ),
    click.option(
        "--accept-eviction", is_flag=True, help="Accept a maxmemory-policy that can evict waiting changes."
    ),
    click.option("--offline", is_flag=True, help="Do not look at the tables in their databases first."),
    click.option("--plan", "only_plan", is_flag=True, help="Show what would change, and change nothing."),
    click.option("--yes", is_flag=True, help="Agree to what is destructive, as a script has to."),
    json_option,
)


def deploying_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options by which a version is deployed, whether it is of a file or one that was kept."""
    for option in reversed(_DEPLOYING):
        command = option(command)
    return command
