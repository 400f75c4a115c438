"""Okiba's slot: agent, zygote and worker. Standard library only, Python 3.10 and later.

    nursery ──fork──▶ agent ──fork──▶ zygote ──fork──▶ worker
    imports once      socket, output,  forks one        imports the handler,
    for many slots    deadlines        worker, reaps    answers invocations

What a gateway and a slot say to each other is `runtime/PROTOCOL.md`. Whoever edits this package minds two costs:
`worker._answer_all` and below run for every call, and what the modules import runs for every bare start.
"""
