"""gearsync completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what completes commands and options in a shell.

    \b
    bash  gearsync completion bash >> ~/.bashrc
    zsh   gearsync completion zsh >> ~/.zshrc
    fish  gearsync completion fish > ~/.config/fish/completions/gearsync.fish
    """
    root = ctx.find_root()
    name = root.info_name or "gearsync"
    of_shell = get_completion_class(shell)
    assert of_shell is not None, "click knows the shells that are offered"  # noqa: S101 (for mypy)
    source = of_shell(root.command, {}, name, f"_{name.replace('-', '_').upper()}_COMPLETE").source()
    click.echo(source.strip())
