"""The program `dpservice-cli`.

Exit status: 0 success; 1 client or gRPC error; 2 the server refused, or does not know the call.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from dpservice.cli.api import EXIT_FAILURE, CliError, client_error
from dpservice.cli.commands import create, delete
from dpservice.cli.frame import Group
from dpservice.cli.inspection import COMMANDS as INSPECTION
from dpservice.cli.output import MODES, render_error
from dpservice.cli.process import PROGRAM, capture, completion, init, reset
from dpservice.cli.reading import get, list_


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-v", "--version", package_name="ironcore-network", prog_name=PROGRAM)
def cli() -> None:
    """Control a packet engine over gRPC."""


for _command in (init, create, get, list_, delete, reset, capture, *INSPECTION, completion):
    cli.add_command(_command)


def main() -> None:
    """Entry point of the executable."""
    if "_DPSERVICE_CLI_COMPLETE" in os.environ:
        cli.main(prog_name=PROGRAM, complete_var="_DPSERVICE_CLI_COMPLETE")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command; errors go to standard output in the form that was asked for. Returns the exit status."""
    try:
        result = cli.main(list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except CliError as error:
        failure = error
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return EXIT_FAILURE
    except click.Abort:
        return EXIT_FAILURE
    except click.ClickException as error:
        failure = client_error(error.format_message())
    else:
        return result if isinstance(result, int) else 0
    mode, pretty = _asked_form(arguments)
    click.echo(render_error(failure, mode, pretty=pretty))
    return failure.exit_status


def _asked_form(arguments: Sequence[str]) -> tuple[str, bool]:
    """Output form and --pretty, read from the raw words: the error may be that they could not be parsed."""
    mode = "name"
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        for flag in ("--output", "-o"):
            if word == flag:
                mode = following
            elif word.startswith(flag) and not (flag == "-o" and word.startswith("--")):
                mode = word.removeprefix(flag).removeprefix("=")
    return (mode if mode in MODES else "name"), "--pretty" in arguments
