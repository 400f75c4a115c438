"""`python -m okiba.apps.cli`: the same as `okiba`."""

from okiba.apps.cli import main

main(prog_name="okiba")
