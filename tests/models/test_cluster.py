"""What a driver can do about a host that has gone."""

import socket
import threading

from models.cluster import _shut_connections


def test_who_waits_for_a_lost_host_is_told_and_others_are_not() -> None:
    answers: dict[str, bytes] = {}
    # two addresses of this machine as two hosts
    with socket.create_server(("127.0.0.2", 0)) as lost, socket.create_server(("127.0.0.3", 0)) as other:

        def ask(server: socket.socket) -> None:
            with socket.create_connection(server.getsockname()) as connection:
                answers[server.getsockname()[0]] = connection.recv(9)

        threads = [threading.Thread(target=ask, args=[server]) for server in (lost, other)]
        for thread in threads:
            thread.start()
        silent, speaking = lost.accept()[0], other.accept()[0]
        _shut_connections({"127.0.0.2"})
        threads[0].join(10)
        assert answers == {"127.0.0.2": b""}
        speaking.sendall(b"here")
        threads[1].join(10)
        assert answers["127.0.0.3"] == b"here"
        silent.close()
        speaking.close()
