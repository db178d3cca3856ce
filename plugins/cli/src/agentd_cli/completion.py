"""`agentd completion`: the script that makes a shell complete this command's words."""

from __future__ import annotations

import os

import click

__all__ = ["completion"]

_SHELLS = ("bash", "zsh", "fish")
_USE = {
    "bash": 'eval "$(agentd completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(agentd completion zsh)"  in ~/.zshrc',
    "fish": "agentd completion fish > ~/.config/fish/completions/agentd.fish",
}


def _users_shell() -> str | None:
    name = os.path.basename(os.environ.get("SHELL", ""))
    return name if name in _SHELLS else None


@click.command(epilog="\b\nUse:\n" + "\n".join(f"  {line}" for line in _USE.values()))
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print the completion script for SHELL (default: the one that $SHELL names)."""
    from click.shell_completion import get_completion_class

    from agentd_cli.main import cli

    shell = shell or _users_shell()
    if shell is None:
        raise click.UsageError(f"which shell? name one of: {', '.join(_SHELLS)}")
    script_of = get_completion_class(shell)
    assert script_of is not None  # click knows all of them
    # the template, not source(): that one starts bash to ask for its version
    script = script_of(cli, {}, "agentd", "_AGENTD_COMPLETE")
    click.echo(script.source_template % script.source_vars())
