"""`okiba deploy`: a SAM template, carried out."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from okiba.adapters.sam_plan import FunctionPlan, Plan
from okiba.apps.cli.client import OkibaClient
from okiba.apps.cli.deployment import Deployed, Deployment, Origin
from okiba.apps.cli.options import is_elsewhere, json_option, state_option
from okiba.apps.cli.output import command_line, program
from okiba.apps.local.state import read_installation
from okiba.core.errors import InvalidParameter, NotFound
from okiba.core.names import Home
from okiba.settings import Settings

DEFAULT_HOME: Final = Home(Settings().region, Settings().account_id)

TEMPLATES: Final = ("template.yaml", "template.yml")

STACK: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
"""Half of a function's 64 characters; the other half is for its logical id."""


@click.command(short_help="Deploy the functions of a SAM template.")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--stack", help="Name that the functions belong together under.  [default: the folder's]")
@click.option("--parameter", "parameters", metavar="K=V", multiple=True, help="A value for one of its Parameters.")
@json_option
@state_option
def deploy(state: Path, folder: Path, stack: str | None, parameters: tuple[str, ...], *, as_json: bool) -> None:
    """Deploy the functions and buckets of the AWS SAM template in DIR (template.yaml, or the file itself).

    Deploying again changes only what differs. Properties that have no effect here are warned about; those that would
    change what the functions mean are refused, with their lines.
    """
    client = OkibaClient.from_state(state)
    elsewhere = is_elsewhere(os.environ, state)
    home = Home(client.region, DEFAULT_HOME.account_id) if elsewhere else home_of(state)
    plan = plan_of(folder, stack, parameters, home, here=not elsewhere)
    for warning in plan.warnings:
        click.echo(f"warning: {warning}", err=True)
    deployment = Deployment(client, plan, origin_of(folder, stack), lambda line: click.echo(line, err=True))
    done = deployment.run()
    for name in deployment.forgotten():
        again = command_line(state, "delete", name)
        click.echo(f"warning: {name} is no more in the template and goes on running; delete it: {again}", err=True)
    click.echo(json.dumps(_as_json(plan, done), indent=2) if as_json else _summary(state, plan, done))


def home_of(state: Path) -> Home:
    """Region and account of the Okiba of a state folder."""
    installation = read_installation(state)
    return Home(installation.region, installation.account_id)


def plan_of(
    folder: Path,
    stack: str | None,
    parameters: Sequence[str] = (),
    home: Home = DEFAULT_HOME,
    *,
    here: bool = True,
) -> Plan:
    """The plan of the template in a folder.

    Args:
        folder: Or the template's own path.
        parameters: Each `NAME=VALUE`.
        home: Region and account that ARNs name.
        here: Whether functions will run on this machine, with its interpreters.

    Raises:
        CallerError: There is no template, or it is refused.
    """
    # The YAML parser is needed by no other command.
    from okiba.adapters.local_python import find_interpreter
    from okiba.adapters.sam_template import read_plan

    template = _template(folder)
    name = _stack_name(template) if stack is None else stack
    if not STACK.fullmatch(name):
        raise InvalidParameter(
            f"--stack must be 1 to 32 letters, digits and hyphens, and begin with no hyphen: {name!r}"
        )
    return read_plan(
        template,
        name,
        dict(_pair(parameter) for parameter in parameters),
        region=home.region,
        account=home.account_id,
        is_installed=lambda runtime: not here or find_interpreter(runtime) is not None,
    )


def origin_of(folder: Path, stack: str | None) -> Origin:
    """Where the template in a folder is deployed from, and whether its stack was named by hand."""
    return Origin(f"{socket.gethostname()}:{_template(folder).resolve()}", stack is not None)


def _template(folder: Path) -> Path:
    if folder.is_file():
        return folder
    for name in TEMPLATES:
        if (folder / name).is_file():
            return folder / name
    raise NotFound(f"there is no {TEMPLATES[0]} in {folder}; name the folder that has one: okiba deploy DIR")


def _stack_name(template: Path) -> str:
    """The folder's name, as far as a function's name can begin with it."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", template.resolve().parent.name)[:32].strip("-") or "stack"


def _pair(parameter: str) -> tuple[str, str]:
    name, equals, value = parameter.partition("=")
    if not name or not equals:
        raise InvalidParameter(f"--parameter must be NAME=VALUE, got {parameter!r}")
    return name, value


def _as_json(plan: Plan, done: Sequence[Deployed]) -> dict[str, object]:
    functions = [{"name": each.name, "change": each.change, "parts": list(each.parts)} for each in done]
    return {
        "stack": plan.stack,
        "buckets": list(plan.buckets),
        "functions": functions,
        "warnings": list(plan.warnings),
    }


def _summary(state: Path, plan: Plan, done: Sequence[Deployed]) -> str:
    lines = [f"bucket {bucket}: ready" for bucket in plan.buckets]
    lines += [f"function {each.name}: {each.change}{_parts(each)}, active" for each in done]
    commands = [command for function in plan.functions[:1] for command in _next(state, function)]
    return "\n".join([*lines, *(["", "Try next:"] if commands else []), *(f"  {command}" for command in commands)])


def _parts(deployed: Deployed) -> str:
    return f" ({', '.join(deployed.parts)})" if deployed.parts else ""


def _next(state: Path, function: FunctionPlan) -> list[str]:
    """What to paste next for a function: put something into its bucket, or call it; then look at its output."""
    if function.bindings:
        first = function.bindings[0]
        # Who talks to an Okiba elsewhere has its variables already.
        environment = "" if is_elsewhere(os.environ, state) else f'eval "$({command_line(state, "env")})" && '
        start = environment + _copying(f"FILE{first.suffix}", first.bucket, first.prefix)
    else:
        start = command_line(state, "invoke", function.name, "--payload", "{}")
    return [start, command_line(state, "logs", function.name, "-f"), command_line(state, "list")]


def _copying(file: str, bucket: str, prefix: str) -> str:
    """A command that puts a file below a bucket's prefix: the aws CLI's where that is installed."""
    if shutil.which("aws"):
        return f"aws s3 cp {file} s3://{bucket}/{prefix}"
    put = f'import boto3; boto3.client("s3").upload_file("{file}", "{bucket}", "{prefix}{file}")'
    return shlex.join([program("python"), "-c", put])
