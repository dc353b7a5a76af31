"""RNode: a LoRa modem that speaks KISS and tells of each packet how it was heard.

::

    C0 23 rssi C0 | C0 24 snr C0 | C0 00 data C0         dBm = rssi - 157, dB = snr / 4, signed

A frame holds all three in this form, escaped as on the wire, so that how a packet was heard reaches the ledger with it;
a modem that tells only the data gives a frame of only the data. -16 dB is the byte C0 and -9.25 dB is DB: they are
escaped like any other.

Layout: markqvist/RNode_Firmware, Framing.h.
"""

from __future__ import annotations

from typing import NamedTuple

from firmware_bridge.frames import Frame
from firmware_bridge.framing.kiss import KissDecoder
from firmware_bridge.framing.slip import END, escape, unescape
from shared.errors import FrameError

_DATA, _RSSI, _SNR = 0x00, 0x23, 0x24
_RSSI_OFFSET_DBM = 157
_SNR_STEP_DB = 0.25


class Heard(NamedTuple):
    """A packet and how it was heard; None where the modem did not tell."""

    data: bytes
    rssi_dbm: float | None = None
    snr_db: float | None = None


def encode_rnode(data: bytes, rssi_dbm: float | None = None, snr_db: float | None = None) -> bytes:
    """Return a packet as an RNode tells it; values beyond a byte are cut to what it holds."""
    wire = b""
    if rssi_dbm is not None:
        wire += _segment(_RSSI, bytes((min(max(round(rssi_dbm) + _RSSI_OFFSET_DBM, 0), 0xFF),)))
    if snr_db is not None:
        wire += _segment(_SNR, min(max(round(snr_db / _SNR_STEP_DB), -128), 127).to_bytes(1, "big", signed=True))
    return wire + _segment(_DATA, data)


def decode_rnode(wire: bytes) -> Heard:
    """Return the one packet of ``wire``; raises FrameError."""
    rssi = snr = b""
    data: bytes | None = None
    for segment in wire.split(END):
        if not segment:
            continue
        content = unescape(segment)
        command, value = content[0], content[1:]
        if command == _DATA and data is None:
            data = value
        elif command == _RSSI and len(value) == 1:
            rssi = value
        elif command == _SNR and len(value) == 1:
            snr = value
        else:
            raise FrameError(f"RNode command {command:02X} with {len(value)} bytes belongs to no packet")
    if data is None:
        raise FrameError("there is no packet, only how one was heard")
    return Heard(data, _rssi_dbm(rssi), _snr_db(snr))


class RNodeDecoder(KissDecoder):
    """Read packets with what was told before them; ``commands`` counts what the modem says of itself."""

    def __init__(self) -> None:
        super().__init__()
        self._rssi: int | None = None
        self._snr: int | None = None

    def flush(self) -> list[Frame]:
        """Give up an unfinished packet, and what was told of it."""
        self._rssi = self._snr = None
        return super().flush()

    def _frame_of(self, segment: bytes) -> Frame | None:
        try:
            content = unescape(segment)
        except FrameError:
            self._rssi = self._snr = None
            self._refuse(segment)
            return None
        command, value = content[0], content[1:]
        if command == _RSSI and len(value) == 1:
            self._rssi = value[0]
        elif command == _SNR and len(value) == 1:
            self._snr = value[0]
        elif command == _DATA:
            rssi = b"" if self._rssi is None else _segment(_RSSI, bytes((self._rssi,)))
            snr = b"" if self._snr is None else _segment(_SNR, bytes((self._snr,)))
            self._rssi = self._snr = None
            return Frame("rnode", rssi + snr + _segment(_DATA, value))
        else:
            self.commands += 1
        return None


def _segment(command: int, value: bytes) -> bytes:
    return END + escape(bytes((command,)) + value) + END


def _rssi_dbm(raw: bytes) -> float | None:
    return float(raw[0] - _RSSI_OFFSET_DBM) if raw else None


def _snr_db(raw: bytes) -> float | None:
    return int.from_bytes(raw, "big", signed=True) * _SNR_STEP_DB if raw else None
