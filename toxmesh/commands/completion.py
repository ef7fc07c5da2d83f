"""`toxmesh completion`: the script that lets a shell complete command lines."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_TOXMESH_COMPLETE"  # click's: by it the script asks the program what may follow

# click's test is true in the first call of an autoloaded function alone: the second one would
# complete nothing.
_ZSH_SECOND_TAB = ("$zsh_eval_context[-1] == loadautofunc", "$funcstack[1] == _toxmesh")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> int:
    """Print a script that completes commands, options and files of toxmesh in SHELL.

    The Debian package installs it. By hand, for this user alone:

    \b
    bash  toxmesh completion bash > ~/.local/share/bash-completion/completions/toxmesh
    zsh   toxmesh completion zsh > ~/.zfunc/_toxmesh    (with fpath+=~/.zfunc before compinit)
    fish  toxmesh completion fish > ~/.config/fish/completions/toxmesh.fish
    """
    from toxmesh import cli

    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    maker = kind(cli.commands(), {}, "toxmesh", VARIABLE)
    script = maker.source_template % maker.source_vars()
    click.echo(script.replace(*_ZSH_SECOND_TAB))
    return 0
