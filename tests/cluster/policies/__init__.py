"""The suite's own NetworkPolicy enforcer: what pods may say to each other, as rules of the nodes' nftables.

`model` reads policies and pods, `rules` turns them into a table (both pure), `watching` follows the API server, and
`python -m tests.cluster.policies` puts the table into each node whenever it changes.

It does what the NetworkPolicy API says for IPv4: pods selected by a policy are isolated in its directions, and each
rule lets through. Two limits it shares with many enforcers: what was connected before a policy came stays connected,
and a pod is isolated once the API knows its address, which is moments after it has it.
"""
