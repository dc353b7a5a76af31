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

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._upstream = host, port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._lock = threading.Lock()
        self._to_drop = 0
        self._to_cut = 0
        self._is_whole = True
        self._through: set[socket.socket] = set()
        #: set whenever a batch has gone on to the server
        self.batch_on_its_way = threading.Event()
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

    def part(self) -> None:
        """Cut every connection, and each new one at once: the network is in two parts."""
        with self._lock:
            self._is_whole = False
            cut, self._through = self._through, set()
        for connection in cut:
            _reset(connection)

    def join(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._is_whole = True

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
            server = socket.create_connection(self._upstream, timeout=5)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        with self._lock:
            is_whole = self._is_whole
            self._through |= {client, server} if is_whole else set()
        if not is_whole:
            _reset(client)
            _reset(server)
            return
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
        with self._lock:
            self._through -= {client, server}

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
                if is_batch.is_set():
                    self.batch_on_its_way.set()
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
