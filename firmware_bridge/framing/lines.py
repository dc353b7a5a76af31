"""Modems and stations that speak in lines of text.

::

    +EVT:RXP2P:-94:-6:930E00B9...                       RAK (RUI3): RSSI in dBm, SNR in dB, the message
    +EVT:RXP2P, RSSI -94, SNR -6 / +EVT:930E00B9...     the same of older firmware, over two lines
    radio_rx  930E00B9...                               Microchip RN2483: neither RSSI nor SNR
    COLLAR-7>APRS,WIDE1-1:/000000h0222.97S/...          APRS as monitors print it (TNC2)
    $GPWPL,0222.97,S,03720.28,E,NAME*hh                 the nodes that a Meshtastic radio in NMEA mode knows
    {"gatewayEui": "...", "rxpk": {... "data": "..."}}  OpenCollar's offload station

CR and LF both end a line. Modems print their own news between the lines that matter: those are skipped, or counted as
``ignored`` where they are of the same kind. What damage joined to the end of another line is found by its beginning.
Only the waypoint has a checksum; everywhere else the radio's own has already vouched for the message, and nothing for
the cable.
"""

from __future__ import annotations

import re

from firmware_bridge.frames import Frame
from firmware_bridge.framing.checksums import nmea_xor
from firmware_bridge.framing.delimited import DelimitedDecoder

#: The longest: 255 bytes in hex and a head; an offload station's line has 600.
MAX_LINE = 1024

_HEX = rb"((?:[0-9A-Fa-f]{2}){1,255})"


class LineDecoder(DelimitedDecoder):
    """Split at CR and LF; a line counts from the last place where ``beginning`` stands in it."""

    delimiter = b"\n"
    beginning: bytes

    def __init__(self) -> None:
        super().__init__(MAX_LINE)
        self.ignored = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes."""
        return super().feed(data.replace(b"\r", b"\n"))

    def _frame_of(self, segment: bytes) -> Frame | None:
        start = segment.rfind(self.beginning)
        if start < 0:
            self.skipped += len(segment)
            return None
        self.skipped += start
        return self._line(segment[start:])

    def _line(self, line: bytes) -> Frame | None:
        """Return the frame of a line that begins as it should; refuse or ignore it."""
        raise NotImplementedError


class RakDecoder(LineDecoder):
    """Read the reception events of RAK modems; both forms give a frame of the newer one."""

    beginning = b"+EVT:"
    _event = re.compile(rb"\+EVT:RXP2P:(-?\d{1,3}):(-?\d{1,3}):" + _HEX)
    _head = re.compile(rb"\+EVT:RXP2P, RSSI (-?\d{1,3}), SNR (-?\d{1,3})")
    _data = re.compile(rb"\+EVT:" + _HEX)

    def __init__(self) -> None:
        super().__init__()
        self._signal: tuple[int, int] | None = None

    def flush(self) -> list[Frame]:
        """Forget a head whose message did not follow."""
        self._signal = None
        return super().flush()

    def _line(self, line: bytes) -> Frame | None:
        signal, self._signal = self._signal, None
        if self._event.fullmatch(line):
            return Frame("rak", line)
        if head := self._head.fullmatch(line):
            self._signal = int(head[1]), int(head[2])
            return None
        if signal is not None and (data := self._data.fullmatch(line)):
            return Frame("rak", b"+EVT:RXP2P:%d:%d:%b" % (*signal, data[1]))
        if line.startswith(b"+EVT:RXP2P:"):
            self._refuse(line)
        else:
            self.ignored += 1  # joined, sent, a reception that timed out
        return None


class Rn2483Decoder(LineDecoder):
    """Read the receptions of RN2483 modems."""

    beginning = b"radio_rx"
    _reception = re.compile(rb"radio_rx +" + _HEX)

    def _line(self, line: bytes) -> Frame | None:
        if self._reception.fullmatch(line):
            return Frame("rn2483", line)
        self._refuse(line)
        return None


class AprsDecoder(LineDecoder):
    """Read APRS packets as monitors print them."""

    beginning = b""
    # The information may hold any byte but CR and LF.
    _packet = re.compile(
        rb"[A-Z0-9]{1,6}(?:-[0-9A-Z]{1,2})?>[A-Z0-9]{1,6}(?:-[0-9A-Z]{1,2})?(?:,[A-Za-z0-9*-]+)*:[^\x00]+", re.DOTALL
    )

    def _frame_of(self, segment: bytes) -> Frame | None:
        if self._packet.fullmatch(segment):
            return Frame("aprs", segment)
        self.skipped += len(segment)
        return None


class WaypointDecoder(LineDecoder):
    """Read waypoint sentences; others are ignored."""

    beginning = b"$"
    _sentence = re.compile(rb"\$([\x20-\x23\x25-\x29\x2b-\x7e]+)\*([0-9A-Fa-f]{2}) *")

    def _line(self, line: bytes) -> Frame | None:
        sentence = self._sentence.fullmatch(line)
        if sentence is None or nmea_xor(sentence[1]) != int(sentence[2], 16):
            self._refuse(line)
            return None
        if sentence[1][2:6] != b"WPL,":
            self.ignored += 1
            return None
        return Frame("wpl", b"$%b*%b" % (sentence[1], sentence[2]))

    def _frames_at_silence(self, segment: bytes) -> list[Frame]:
        # The end of the line may be what the noise ate; the checksum says whether the rest is whole.
        frame = self._frame_of(segment)
        return [] if frame is None else [frame]


class OffloadDecoder(LineDecoder):
    """Read the lines of an offload station, which writes the line's end before the line."""

    beginning = b'{"gatewayEui"'

    def _line(self, line: bytes) -> Frame | None:
        if line.rstrip().endswith(b"}}"):
            return Frame("lp0", line)
        self._refuse(line)
        return None

    def _frames_at_silence(self, segment: bytes) -> list[Frame]:
        frame = self._frame_of(segment)
        return [] if frame is None else [frame]
