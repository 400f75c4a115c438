"""The `okiba` command: a table of commands, each imported only when it is called.

Importing every command would take most of a second (cryptography, SAM's translator); `okiba --help` needs none of
them. A command module holds click commands and turns what it is told into calls; it decides nothing itself.

Exit codes: 0 it was done; 1 it failed, and one line says why; 2 it was called wrongly.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

import click

from okiba.core.errors import OkibaError

COMMANDS: Final = {
    "up": ("okiba.apps.cli.lifecycle:up", "Start Okiba on this machine."),
    "down": ("okiba.apps.cli.lifecycle:down", "Stop the Okiba that runs on this state folder."),
    "status": ("okiba.apps.cli.status:status", "Show what runs, what waits and what went wrong."),
    "env": ("okiba.apps.cli.lifecycle:env", "Print export lines that point boto3 and the aws CLI here."),
    "deploy": ("okiba.apps.cli.deploy:deploy", "Deploy the functions of a SAM template."),
    "list": ("okiba.apps.cli.functions:list_functions", "List functions."),
    "invoke": ("okiba.apps.cli.functions:invoke", "Invoke a function."),
    "logs": ("okiba.apps.cli.functions:logs", "Show a function's output."),
    "pause": ("okiba.apps.cli.functions:pause", "Let a function's asynchronous events wait."),
    "resume": ("okiba.apps.cli.functions:resume", "Go on with a paused function's events."),
    "delete": ("okiba.apps.cli.functions:delete", "Delete a function."),
    "dlq": ("okiba.apps.cli.dlq:dlq", "Dead letters: events whose every attempt failed."),
    "sweep": ("okiba.apps.cli.sweep:sweep", "Find objects that nobody announced, and have them handled."),
    "doctor": ("okiba.apps.cli.doctor:doctor", "Check this machine, and say what to do."),
}
"""Name → where the click command is, and its line in `okiba --help`."""


class Commands(click.Group):
    """A group whose commands are imported when they are called, and whose errors are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command itself."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The help's list, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; an error of Okiba's becomes one line and exit code 1."""
        try:
            return super().invoke(ctx)
        except OkibaError as error:
            click.echo(f"okiba: {error}", err=True)
            sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="okiba", message="okiba %(version)s")
def main() -> None:
    """Functions that run when a file arrives: S3 + Lambda on your own machines.

    Every command takes --state DIR, or the variable OKIBA_STATE_DIR, for another installation than the user's own.
    """
