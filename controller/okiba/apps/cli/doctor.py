"""`okiba doctor`: checks of this machine, each with what to do."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from okiba.apps.cli.options import json_option, state_option


@click.command(short_help="Check this machine, and say what to do.")
@state_option
@json_option
def doctor(state: Path, *, as_json: bool) -> None:
    """Check this machine, and say what to do. Exit code 1 when something would keep Okiba from running."""
    from okiba.apps.local.diagnosis import Verdict, diagnose

    findings = diagnose(state, os.environ)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.verdict:<8} {finding.check}: {finding.seen}")
            if finding.advice:
                click.echo(f"{'':8} → {finding.advice}")
    sys.exit(any(finding.verdict is Verdict.FAILED for finding in findings))
