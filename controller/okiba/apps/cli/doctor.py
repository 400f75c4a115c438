"""`okiba doctor`: checks of this machine and of the Okiba that runs, each with what to do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from okiba.apps.cli.options import ENDPOINT, PUBLISHED, is_elsewhere, json_option, state_option
from okiba.apps.cli.output import shortened

if TYPE_CHECKING:
    from okiba.apps.cli.platform_checks import Examination
    from okiba.apps.local.diagnosis import Finding

TOKEN: Final = "OKIBA_WEBHOOK_TOKEN"  # noqa: S105 (a variable's name)


@click.command(short_help="Check this machine and the Okiba that runs, and say what to do.")
@click.option("--minio", "with_minio", is_flag=True, help="Print what a MinIO has to be told, also when all is well.")
@click.option("--show-token", is_flag=True, help="Print the token of notifications, too; needs the state folder.")
@state_option
@json_option
def doctor(state: Path, *, with_minio: bool, show_token: bool, as_json: bool) -> None:
    """Check this machine and the Okiba that runs, and say what to do.

    Where OKIBA_ENDPOINT names an Okiba elsewhere (in containers, on a cluster), that one is checked, and not this
    machine. Exit code 1 when something keeps Okiba from running, or events from arriving.

    What a MinIO of your own has to be told, so that it announces objects to Okiba, is printed for an Okiba elsewhere,
    when something is amiss there, and with --minio.
    """
    from okiba.apps.local.diagnosis import Verdict

    elsewhere = is_elsewhere(os.environ, state)
    found = _examined(state, elsewhere=elsewhere)
    secret = _token(state) if show_token else ""
    minio = _with_token(found.minio, secret)
    failed = [finding for finding in found.findings if finding.verdict is Verdict.FAILED]
    if as_json:
        findings = [asdict(finding) for finding in found.findings]
        click.echo(json.dumps({"ok": not failed, "findings": findings, "minio": minio or None}, indent=2))
    else:
        amiss = any(finding.check.startswith("lane ") for finding in failed)
        click.echo("\n".join(_lines(found.findings)))
        if minio and (elsewhere or with_minio or amiss):
            click.echo("\n".join(_minio_lines(minio, _whereabouts(state, elsewhere=elsewhere), known=bool(secret))))
        elif with_minio:
            click.echo("\nWhat a MinIO has to be told is the gateway's to say, which does not answer.")
    sys.exit(bool(failed))


def _examined(state: Path, *, elsewhere: bool) -> Examination:
    """What there is to check: this machine, the Okiba that runs, or both."""
    from okiba.apps.cli.client import OkibaClient
    from okiba.apps.cli.platform_checks import Examination, examine
    from okiba.apps.local.diagnosis import Finding, Verdict, diagnose
    from okiba.apps.local.state import lock_holder
    from okiba.core.errors import OkibaError

    if elsewhere or os.environ.get(PUBLISHED):  # in one of Okiba's containers, which is no machine to start it on
        return examine(OkibaClient.from_state(state))
    machine = diagnose(state, os.environ)
    if lock_holder(state) is None:
        return Examination([*machine, *_hinted(state)])
    try:
        client = OkibaClient.from_state(state)
    except OkibaError as error:
        advice = f"stop it (end process {lock_holder(state)}), and put the file back from a backup: it has all keys"
        return Examination([*machine, Finding("credentials", Verdict.FAILED, f"Okiba runs, but {error}", advice)])
    found = examine(client)
    return Examination(machine + found.findings, found.minio)


def _hinted(state: Path) -> Iterator[Finding]:
    """For a shell that talks to an Okiba elsewhere, but has not told `okiba` so."""
    from okiba.apps.local.diagnosis import Finding, Verdict

    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and not (state / "okiba.json").exists():
        advice = f"if that is an Okiba elsewhere, have it checked: export {ENDPOINT}={endpoint}"
        yield Finding("AWS_ENDPOINT_URL", Verdict.WARNING, f"is {endpoint}, and no state folder is here", advice)


def _lines(findings: list[Finding]) -> Iterator[str]:
    for finding in findings:
        yield f"{finding.verdict:<8} {finding.check}: {shortened(finding.seen)}"
        if finding.advice:
            yield f"{'':8} → {finding.advice}"
    counts = {verdict: sum(each.verdict == verdict for each in findings) for verdict in ("ok", "warning", "failed")}
    yield f"\n{len(findings)} checks: {counts['ok']} fine, {counts['warning']} to know about, {counts['failed']} failed"


def _minio_lines(minio: Mapping[str, Any], token_from: str, *, known: bool) -> Iterator[str]:
    yield "\nA MinIO announces objects to this Okiba when it is started with"
    yield from (f"  {name}={value}" for name, value in minio["environment"].items())
    yield "or, while it runs, is told (ALIAS: what `mc alias list` calls it)"
    yield from (f"  {command}" for command in minio["commands"])
    yield f"{minio['queue_dir']} stands for any folder that MinIO may write to, outside its drives, that survives it."
    if not known:
        yield f"${TOKEN} stands for the token of notifications, which is {token_from}."
    yield "From outside a cluster, MinIO needs another address that leads to the admin port: put that in its place."


def _whereabouts(state: Path, *, elsewhere: bool) -> str:
    if elsewhere:
        return "`webhook-token` in the Secret that the chart's notes name, or in a container's credentials.json"
    return f"`webhook_token` in {state / 'credentials.json'} (printed with --show-token)"


def _token(state: Path) -> str:
    """The token of notifications; raises one of `core.errors` where the state folder is not here."""
    from okiba.apps.local.credentials import read_credentials

    return read_credentials(state).webhook_token


def _with_token(minio: Mapping[str, Any], token: str) -> dict[str, Any]:
    if not (minio and token):
        return dict(minio)
    return {
        **minio,
        "environment": {name: value.replace(f"${TOKEN}", token) for name, value in minio["environment"].items()},
        "commands": [command.replace(f"${TOKEN}", token) for command in minio["commands"]],
    }
