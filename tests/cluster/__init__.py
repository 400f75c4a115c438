"""A real Kubernetes of two nodes on one machine, for tests where there is no Docker and no image registry.

`python -m tests.cluster up` builds what is missing (once; kept in the cache folder), starts it and prints the line
that `kubectl` needs; `down` takes all of it away. Nothing here stands in for a part of Kubernetes: etcd, API server,
controller manager, scheduler, kubelets, kube-proxies and CoreDNS are the real ones, containers are containerd's. Three
things are the suite's own: the second node, which is a pair of namespaces (`parts.node`), the NetworkPolicy enforcer
(`policies`), because a bridge enforces none, and what makes volumes for claims (`parts.volumes`).

`making` makes what is needed and keeps it, `parts` are what runs, `cluster` is the whole; `access`, `fixtures` and
`disasters` are for tests.

It needs root, Linux with cgroup v1 and a few Debian packages; `making.requirements` says which a machine lacks. Tests
run on any other cluster just as well: name its kubeconfig in OKIBA_TEST_KUBECONFIG.
"""
