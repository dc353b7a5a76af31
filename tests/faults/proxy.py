"""A TCP proxy between a station and its cloud that loses what a test tells it to lose."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Final

_CHUNK: Final = 65_536
#: Closing with this option set sends a reset in the place of a goodbye.
_RESET: Final = struct.pack("ii", 1, 0)


class FaultProxy:
    """Forwards connections from a port of its own to ``port``, each in two threads.

    An answer is dropped after it has come: the server has done its work and the client never hears of it.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._lock = threading.Lock()
        self._to_drop = 0
        self._to_cut = 0
        self.dropped = 0
        self.cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The address that the station is told."""
        return f"http://127.0.0.1:{self.port}"

    def drop_answers(self, n: int) -> None:
        """Drop the next ``n`` answers to batches."""
        with self._lock:
            self._to_drop = n

    def cut_requests(self, n: int) -> None:
        """Cut the next ``n`` batches in the middle of their way."""
        with self._lock:
            self._to_cut = n

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream), timeout=5)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        is_batch = threading.Event()
        threading.Thread(target=self._up, args=(client, server, is_batch), daemon=True).start()
        with contextlib.suppress(OSError):
            while data := server.recv(_CHUNK):
                if is_batch.is_set() and self._takes("_to_drop"):
                    self.dropped += 1
                    break
                client.sendall(data)
        _reset(client)
        _reset(server)

    def _up(self, client: socket.socket, server: socket.socket, is_batch: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_CHUNK):
                if data.startswith((b"PUT ", b"GET ", b"POST ")):
                    (is_batch.set if data.startswith(b"PUT ") else is_batch.clear)()
                if data.startswith(b"PUT ") and self._takes("_to_cut"):
                    self.cut += 1
                    server.sendall(data[: len(data) // 2])
                    break
                server.sendall(data)
        _reset(server)
        _reset(client)

    def _takes(self, name: str) -> bool:
        with self._lock:
            left: int = getattr(self, name)
            setattr(self, name, max(left - 1, 0))
            return left > 0


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
