"""`reconciler completion`: prints the script that lets a shell complete commands, options and files."""

import click
from click import shell_completion

from reconciler.cli import framework

_VARIABLE = "_RECONCILER_COMPLETE"  # as click derives it from the program's name
_SHELLS = ("bash", "zsh", "fish")


@framework.command(
    "reconciler completion bash >> ~/.bashrc",
    "reconciler completion zsh > ~/.zfunc/_reconciler",
    "reconciler completion fish > ~/.config/fish/completions/reconciler.fish",
)
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """
    Print the script that lets a shell complete what you type.

    To try it in bash: eval "$(reconciler completion bash)". To keep it, write it to the file in the examples; for zsh,
    add fpath+=~/.zfunc to ~/.zshrc before compinit. Bash must be 4.4 or newer.
    """
    made = shell_completion.get_completion_class(shell)
    assert made is not None, shell
    root = click.get_current_context().find_root().command
    print(made(root, {}, "reconciler", _VARIABLE).source(), end="")
