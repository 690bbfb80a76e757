"""The executable `ironctl`: its commands, loaded when they are used so that the others start fast."""

import importlib
import os
import sys
from typing import Final, NoReturn

import click

# Command → (module, name in it, what it does).
_COMMANDS: Final = {
    "api-resources": ("read", "api_resources", "List the kinds that this command knows."),
    "apply": ("write", "apply", "Make objects what manifests say."),
    "completion": ("completion", "completion", "Print the completion script of a shell."),
    "create": ("write", "create", "Create objects from manifests."),
    "delete": ("write", "delete", "Delete objects."),
    "describe": ("read", "describe", "Show objects in full."),
    "get": ("read", "get", "Show objects."),
    "wait": ("wait", "wait", "Wait until objects are in a state."),
    "watch": ("read", "watch", "Show objects and every change."),
}

CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        found = getattr(importlib.import_module(f"ironcore_net_server.cli.{module}"), name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The commands themselves would be loaded for one line each.
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in _COMMANDS.items()])


@click.command(
    cls=_Commands,
    context_settings=CONTEXT_SETTINGS,
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not found, 4 no server, 5 timed out, "
    "6 wrong manifest, 7 conflict.",
)
@click.version_option(package_name="ironcore-network")
def cli() -> None:
    """Work with the objects of virtual networks: ironctl apply -f DIR, ironctl get networks, ironctl watch nics.

    The server is --server or $IRONCTL_SERVER, 127.0.0.1:8443 if neither is given.
    """


def main() -> NoReturn:
    """Entry point."""
    try:
        cli(prog_name="ironctl")
    except BrokenPipeError:
        # The reader (a pager, head) has seen enough; what Python flushes at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)
