"""APRS positions, plain and packed, from monitors and from AX.25."""

from __future__ import annotations

import pytest

from firmware_bridge.codecs.aprs import AprsCodec, KissAx25Codec
from firmware_bridge.frames import TimeOfDay, Uplink
from firmware_bridge.framing.kiss import encode_kiss
from shared.errors import FrameError

AX25 = bytes.fromhex("82a0a4a64040e0869e989882a46eae92888a62406303f021303232322e3937532f30333732302e3238455b")


def heard(info: str) -> Uplink:
    (uplink,) = AprsCodec().decode(b"COLLAR-7>APRS,WIDE1-1,qAR,GATE:" + info.encode("latin-1"))
    return uplink


def packed(lat_deg: float, lon_deg: float) -> str:
    """Return a packed position up to its course: four letters of base 91 for either coordinate, and the symbol."""
    values = round(380_926 * (90 - lat_deg)), round(190_463 * (180 + lon_deg))
    letters = ("".join(chr(value // 91**power % 91 + 33) for power in (3, 2, 1, 0)) for value in values)
    return "=/" + "".join(letters) + "["


def test_a_time_of_day_stays_one_and_a_position_without_one_gets_none() -> None:
    (timed,) = heard("@235958h0222.97S/03720.28E[").fixes
    (untimed,) = heard("!0222.97S/03720.28E[").fixes
    assert (timed.recorded_at, timed.time_of_day) == (None, TimeOfDay(23, 59, 58))
    assert (untimed.recorded_at, untimed.time_of_day) == (None, None)
    assert untimed.lat_deg == pytest.approx(-2.3828333, abs=1e-7)


def test_a_local_time_is_no_time_as_nobody_knows_where() -> None:
    assert heard("/011530/0222.97S/03720.28E[").fixes[0].time_of_day is None


def test_course_speed_and_altitude_are_in_our_units() -> None:
    (fix,) = heard("!0222.97S/03720.28E[360/036/A=003894").fixes
    assert fix.heading_deg == 0.0
    assert fix.speed_mps == pytest.approx(18.52)
    assert fix.alt_m == pytest.approx(1186.8912)
    assert heard("!0222.97S/03720.28E[000/000").fixes[0].heading_deg is None


@pytest.mark.parametrize(
    ("info", "lat_deg", "lon_deg", "h_acc_m"),
    [
        ("!0222.9 S/03720.2 E[", -(2 + 22.95 / 60), 37 + 20.25 / 60, 92.6),
        ("!0222.  S/03720.  E[", -(2 + 22.5 / 60), 37 + 20.5 / 60, 926.0),
        ("!022 .  S/0372 .  E[", -(2 + 25 / 60), 37 + 25 / 60, 9_260.0),
        ("!02  .  S/037  .  E[", -2.5, 37.5, 92_600.0),
    ],
)
def test_blanks_on_purpose_are_the_middle_and_its_radius(
    info: str, lat_deg: float, lon_deg: float, h_acc_m: float
) -> None:
    (fix,) = heard(info).fixes
    assert fix.lat_deg == pytest.approx(lat_deg)
    assert fix.lon_deg == pytest.approx(lon_deg)
    assert fix.h_acc_m == pytest.approx(h_acc_m)


def test_a_packed_position_gives_course_and_speed_or_altitude() -> None:
    # 88 degrees is 4 * 22, the speed 1.08 ** 20 - 1 knots, the altitude 1.002 ** (37 * 91 + 90) feet.
    (fix,) = heard(packed(-2.5, 37.5) + "75C").fixes
    assert fix.lat_deg == pytest.approx(-2.5, abs=1e-5)
    assert fix.lon_deg == pytest.approx(37.5, abs=1e-5)
    assert fix.heading_deg == 88.0
    assert fix.speed_mps == pytest.approx(3.661 * 1852 / 3600, abs=0.001)
    assert heard(packed(-2.5, 37.5) + "F{Q").fixes[0].alt_m == pytest.approx(999.5 * 0.3048, abs=0.5)


def test_an_old_packed_position_is_no_fix() -> None:
    uplink = heard(packed(-2.5, 37.5) + "75#")
    assert uplink.details["is_current"] is False
    assert uplink.fixes[0].lat_deg is None


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ("!9922.97S/03720.28E[", "not on the globe"),
        ("!0260.00S/03720.28E[", "not on the globe"),
        ("!0222.97S/03720.28", "neither a plain nor a packed"),
        ("/999999h0222.97S/03720.28E[", "no time"),
        ("/0112x5z0222.97S/03720.28E[", "no time"),
        ("`abcdefg/", "Mic-E"),
        ("}COLLAR-9>APRS:!0222.97S/03720.28E[", "third-party"),
        (";HERD     *010000z0222.97S/03720.28E[", "object"),
    ],
)
def test_what_is_no_position_or_not_read_here_is_refused(info: str, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        heard(info)


@pytest.mark.parametrize("line", [b"", b"COLLAR-7", b"collar>APRS:!", b"COLLAR-7>APRS:", b"A>B\x00:!"])
def test_what_is_no_packet_is_refused(line: bytes) -> None:
    with pytest.raises(FrameError, match="not a packet"):
        AprsCodec().decode(line)


def test_an_ax25_frame_is_read_bare_and_as_kiss() -> None:
    for wire in (AX25, encode_kiss(AX25)):
        (uplink,) = KissAx25Codec().decode(wire)
        assert uplink.device == "aprs:COLLAR-7"
        assert uplink.details["path"] == ["WIDE1-1"]
        assert uplink.fixes[0].lon_deg == pytest.approx(37.338, abs=1e-6)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "do not end"),
        (AX25[:20], "do not end"),
        (AX25[:6] + b"\xe1" + AX25[7:], "two addresses"),
        (AX25[:21] + b"\x3f\xf0!", "unnumbered"),
        (AX25[:23], "no information"),
        (b"\x83" + AX25[1:], "no call sign"),
        (b"\xc0\x10" + AX25 + b"\xc0\xc0\x00x\xc0", "frames, not one"),
        (b"\xc0\x06\x01\xc0", "the modem's"),
    ],
)
def test_a_frame_that_carries_no_aprs_is_refused(frame: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        KissAx25Codec().decode(frame)
