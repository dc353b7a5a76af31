"""Named checksums against the check values of the CRC catalogue and of the receivers' manuals."""

from __future__ import annotations

import pytest

from firmware_bridge.framing.checksums import CRC16_VARIANTS, crc16_ibm_3740, nmea_xor, ubx_fletcher


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("CCITT_FALSE", 0x29B1),
        ("XMODEM", 0x31C3),
        ("KERMIT", 0x2189),
        ("X25_HDLC", 0x906E),
        ("MODBUS", 0x4B37),
        ("GENIBUS", 0xD64E),
        ("SPI_FUJITSU_1D0F", 0xE5CC),
    ],
)
def test_each_variant_gives_its_check_value(name: str, check: int) -> None:
    assert CRC16_VARIANTS[name](b"123456789") == check


def test_there_is_no_variant_without_a_check() -> None:
    assert len(CRC16_VARIANTS) == 7


def test_data_with_its_own_crc_sums_to_zero() -> None:
    assert crc16_ibm_3740(b"123456789\x29\xb1") == 0


def test_the_nmea_checksum_is_the_xor_of_the_bytes_between_the_signs() -> None:
    assert nmea_xor(b"GNRMC,000000.00,A,0222.972776,S,03720.283660,E,1.4,123.4,010126,,,A,V") == 0x25
    assert nmea_xor(b"") == 0


def test_the_ubx_checksum_sums_bytes_and_running_sums() -> None:
    assert ubx_fletcher(b"\x01\x02\x03") == bytes((6, 1 + 3 + 6))
    assert ubx_fletcher(bytes([255]) * 300) == bytes((255 * 300 & 255, 255 * 300 * 301 // 2 & 255))
