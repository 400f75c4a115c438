"""The gateway process: all HTTP, and hops 1 to 6 of an event.

Inside: the raw ASGI data path (`invoke`), who may call (`access`), the control plane (`control` and what it mounts),
the admin port (`admin`), and `process`, which puts it all together. Not here: decisions (`core`) and hops (`flow`).
"""
