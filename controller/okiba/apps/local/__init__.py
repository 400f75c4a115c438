"""Okiba on one machine: what `okiba up` supervises, and slots as local processes.

`state` and `credentials` are the state folder; `tools` finds or builds the servers; `components` says how each process
is started; `processes` starts and ends one; `supervisor` keeps them all. `fleet` runs in the controller, not in the
supervisor: slots outlive both the gateway and the controller, never the supervisor.
"""
