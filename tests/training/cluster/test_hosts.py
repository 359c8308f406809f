"""The driver's connections to a lost host."""

import socket
import threading

from training.cluster.hosts import _shut_connections


def test_connections_to_a_lost_host_are_shut_down_and_others_stay_open() -> None:
    answers: dict[str, bytes] = {}
    # Two addresses of this machine stand for two hosts.
    with socket.create_server(("127.0.0.2", 0)) as lost, socket.create_server(("127.0.0.3", 0)) as other:

        def ask(server: socket.socket) -> None:
            with socket.create_connection(server.getsockname()) as connection:
                answers[server.getsockname()[0]] = connection.recv(9)

        threads = [threading.Thread(target=ask, args=[server]) for server in (lost, other)]
        for thread in threads:
            thread.start()
        lost_connection, other_connection = lost.accept()[0], other.accept()[0]
        _shut_connections({"127.0.0.2"})
        threads[0].join(10)
        assert answers == {"127.0.0.2": b""}
        other_connection.sendall(b"here")
        threads[1].join(10)
        assert answers["127.0.0.3"] == b"here"
        lost_connection.close()
        other_connection.close()
