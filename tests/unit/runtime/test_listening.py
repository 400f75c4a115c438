from __future__ import annotations

import socket

import pytest

from okiba_runtime.listening import listener, tune


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_agent_listens_at_addresses_of_both_kinds(host):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        try:
            free.bind((host.strip("[]"), 0))
        except OSError:
            pytest.skip("this machine has no such address")
        port = free.getsockname()[1]

    with listener(f"tcp:{host}:{port}"), socket.create_connection((host.strip("[]"), port), 5) as connection:
        assert connection.getpeername()[1] == port


def test_a_connection_whose_other_side_is_gone_ends_by_itself():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5):
        accepted, _ = server.accept()
        with accepted:
            tune(accepted)

            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
