"""What runs and what it runs on: the control plane, the nodes, their processes, groups, certificates and network.

Nothing here knows of the whole: which part comes when is said in `tests.cluster.cluster`.
"""
