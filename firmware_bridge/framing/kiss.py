"""KISS (Chepponis and Karn, 1987): SLIP with a command byte in front, as radio modems speak it.

::

    C0 | port << 4 | command | data, escaped as in SLIP | C0

Command 0 is data from the air. Every other command sets or reports something of the modem; those frames are counted and
not passed on. There is no checksum: the modem has dropped what the air damaged.
"""

from __future__ import annotations

from firmware_bridge.frames import Frame, Framing
from firmware_bridge.framing.delimited import DelimitedDecoder
from firmware_bridge.framing.slip import END, escape, unescape
from shared.errors import FrameError

_HIGHEST = 15


def encode_kiss(data: bytes, port: int = 0, command: int = 0) -> bytes:
    """Return ``data`` as it goes on the wire; raises ValueError unless port and command are 0 to 15."""
    if not (0 <= port <= _HIGHEST and 0 <= command <= _HIGHEST):
        raise ValueError(f"port {port} and command {command} must be 0 to {_HIGHEST}")
    return END + escape(bytes((port << 4 | command,)) + data) + END


def decode_kiss(segment: bytes) -> tuple[int, int, bytes]:
    """Return port, command and data of what stands between two delimiters; raises FrameError."""
    content = unescape(segment)
    if not content:
        raise FrameError("a KISS frame without its command byte")
    return content[0] >> 4, content[0] & 0x0F, content[1:]


class KissDecoder(DelimitedDecoder):
    """Read KISS data frames; ``commands`` counts the frames of other commands.

    Bytes before the first delimiter are no frame: a modem's greeting must not look like data.
    """

    delimiter = END

    framing: Framing = "kiss"

    def __init__(self, max_frame: int = 2048) -> None:
        super().__init__(max_frame)
        self.commands = 0
        self._is_synchronised = False

    def feed(self, data: bytes) -> list[Frame]:
        """Return the data frames that ``data`` completes."""
        if not self._is_synchronised:
            start = data.find(END)
            if start < 0:
                self.skipped += len(data)
                return []
            self.skipped += start
            data = data[start + 1 :]
            self._is_synchronised = True
        return super().feed(data)

    def flush(self) -> list[Frame]:
        """Give up an unfinished frame; the next one begins with its own delimiter."""
        self._is_synchronised = self._is_synchronised and not (self._pending or self._is_overlong)
        return super().flush()

    def _frame_of(self, segment: bytes) -> Frame | None:
        try:
            _, command, data = decode_kiss(segment)
        except FrameError:
            self._refuse(segment)
            return None
        if command:
            self.commands += 1
            return None
        return Frame(self.framing, data)


class Ax25Decoder(KissDecoder):
    """Read the AX.25 frames of a packet radio's KISS modem, which has checked and removed their checksum."""

    framing = "ax25"
