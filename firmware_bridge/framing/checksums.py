"""Named checksums of the wires that collars hang on.

"CRC-16" alone names dozens of functions and "CRC-16-CCITT" at least four; a frame format has to name its variant. The
check value of a variant is its result over the ASCII digits ``123456789``.

==================  ==================  ======  ====================================================
name here           catalogue name      check   found in
==================  ==================  ======  ====================================================
CCITT_FALSE         CRC-16/IBM-3740     29b1    our own serial frame
XMODEM              CRC-16/XMODEM       31c3    XMODEM, many boot loaders
KERMIT              CRC-16/KERMIT       2189    the original CCITT, reflected
X25_HDLC            CRC-16/IBM-SDLC     906e    AX.25, HDLC, PPP
MODBUS              CRC-16/MODBUS       4b37    Modbus RTU
GENIBUS             CRC-16/GENIBUS      d64e    EPC Gen 2 tags
SPI_FUJITSU_1D0F    CRC-16/SPI-FUJITSU  e5cc    "CCITT with 1D0F"
==================  ==================  ======  ====================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from itertools import accumulate
from operator import xor
from types import MappingProxyType

from fastcrc import crc16

CRC16_VARIANTS: Mapping[str, Callable[[bytes], int]] = MappingProxyType(
    {
        "CCITT_FALSE": crc16.ibm_3740,
        "XMODEM": crc16.xmodem,
        "KERMIT": crc16.kermit,
        "X25_HDLC": crc16.ibm_sdlc,
        "MODBUS": crc16.modbus,
        "GENIBUS": crc16.genibus,
        "SPI_FUJITSU_1D0F": crc16.spi_fujitsu,
    }
)


def crc16_ibm_3740(data: bytes) -> int:
    """Return the CRC-16/IBM-3740 of ``data``; over data followed by its own CRC, big-endian, it is 0."""
    return crc16.ibm_3740(data)


def nmea_xor(data: bytes) -> int:
    """Return the NMEA 0183 checksum of the bytes between ``$`` and ``*``."""
    return reduce(xor, data, 0)


def ubx_fletcher(data: bytes) -> bytes:
    """Return CK_A and CK_B of a UBX message; ``data`` runs from the class to the end of the payload."""
    return bytes((sum(data) & 0xFF, sum(accumulate(data)) & 0xFF))
