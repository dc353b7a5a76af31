"""NMEA epochs: what is a fix, and what only looks like one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from firmware_bridge.codecs.nmea import NmeaCodec
from firmware_bridge.frames import DecodedFix, Uplink
from firmware_bridge.framing.nmea import encode_sentence
from shared.errors import FrameError

AT = datetime(2026, 1, 1, tzinfo=UTC)
RMC = encode_sentence("GNRMC,000000.00,A,0222.972776,S,03720.283660,E,1.4,123.4,010126,,,A,V")
GGA = encode_sentence("GNGGA,000000.00,0222.972776,S,03720.283660,E,1,09,1.01,1202.2,M,-15.2,M,,")


def rmc(
    *, status: str = "A", date: str = "010126", time: str = "000000.00", mode: str = ",A,V", position: str = ""
) -> bytes:
    where = position or "0222.972776,S,03720.283660,E"
    return encode_sentence(f"GNRMC,{time},{status},{where},1.4,123.4,{date},,{mode}")


def gga(quality: int) -> bytes:
    return encode_sentence(f"GNGGA,000000.00,0222.972776,S,03720.283660,E,{quality},09,1.01,1202.2,M,-15.2,M,,")


def decode(payload: bytes) -> Uplink:
    (uplink,) = NmeaCodec().decode(payload)
    return uplink


def fix_of(payload: bytes) -> DecodedFix:
    (fix,) = decode(payload).fixes
    return fix


def test_rmc_and_gga_make_one_fix_in_either_order() -> None:
    fix = fix_of(RMC + GGA)
    assert (fix.recorded_at, fix.lat_deg, fix.lon_deg, fix.alt_m) == (AT, -2.3828796, 37.338061, 1202.2)
    assert (fix.sats, fix.hdop, fix.heading_deg) == (9, 1.01, 123.4)
    assert fix.speed_mps == pytest.approx(1.4 * 1852 / 3600)
    assert fix_of(GGA + RMC) == fix


def test_rmc_alone_is_a_fix_also_without_line_end() -> None:
    fix = fix_of(RMC.rstrip())
    assert (fix.recorded_at, fix.lat_deg, fix.alt_m, fix.sats) == (AT, -2.3828796, None, None)


def test_gga_alone_has_no_date_and_is_no_fix() -> None:
    uplink = decode(GGA)
    assert uplink.fixes == ()
    assert (uplink.details["lat"], uplink.details["date"]) == (-2.3828796, None)


def test_gns_stands_in_for_gga() -> None:
    gns = encode_sentence("GNGNS,000000.00,0222.972776,S,03720.283660,E,AAN,12,0.9,1202.2,-15.2,,")
    fix = fix_of(RMC + gns)
    assert (fix.sats, fix.hdop, fix.alt_m) == (12, 0.9, 1202.2)
    unfixed = encode_sentence("GNGNS,000000.00,0222.972776,S,03720.283660,E,NNE,00,99.9,,,,")
    assert fix_of(RMC + unfixed).lat_deg is None


@pytest.mark.parametrize("mode", [",A,V", ",D,V", ",F,V", ",R,V", ",A", ""])
def test_a_mode_of_satellites_or_of_an_old_receiver_is_a_fix(mode: str) -> None:
    assert fix_of(rmc(mode=mode)).lat_deg == -2.3828796


@pytest.mark.parametrize("mode", [",E,V", ",M,V", ",N,V", ",S,V"])
def test_an_estimated_manual_or_simulated_position_is_no_fix(mode: str) -> None:
    fix = fix_of(rmc(mode=mode))
    assert (fix.recorded_at, fix.lat_deg, fix.lon_deg) == (AT, None, None)


@pytest.mark.parametrize("quality", [0, 6, 7, 8])
def test_a_quality_without_satellites_is_no_fix(quality: int) -> None:
    assert fix_of(RMC + gga(quality)).lat_deg is None
    assert fix_of(RMC + gga(1)).lat_deg == -2.3828796


def test_a_void_sentence_is_a_failed_fix_at_its_time() -> None:
    fix = fix_of(encode_sentence("GNRMC,000000.00,V,,,,,,,010126,,,N,V"))
    assert (fix.recorded_at, fix.lat_deg, fix.lon_deg, fix.speed_mps) == (AT, None, None, None)


def test_a_void_sentence_without_date_has_no_time() -> None:
    assert fix_of(encode_sentence("GNRMC,000000.00,V,,,,,,,,,,N,V")).recorded_at is None


def test_a_position_without_a_date_is_no_fix() -> None:
    assert decode(rmc(date="")).fixes == ()


@pytest.mark.parametrize("position", ["0222.97,X,03720.28,E", ",S,03720.28,E", "0222.97,S,,E", "222,S,03720.28,E"])
def test_a_position_that_cannot_be_read_is_unknown_and_not_zero(position: str) -> None:
    fix = fix_of(rmc(position=position))
    assert (fix.lat_deg, fix.lon_deg) == (None, None)


def test_empty_speed_and_course_are_unknown() -> None:
    fix = fix_of(encode_sentence("GNRMC,000000.00,A,0222.972776,S,03720.283660,E,,,010126,,,A,V"))
    assert (fix.speed_mps, fix.heading_deg) == (None, None)


def test_a_rolled_over_week_is_passed_on_as_the_receiver_says_it() -> None:
    assert fix_of(rmc(date="180506")).recorded_at == datetime(2006, 5, 18, tzinfo=UTC)


def test_a_receiver_that_has_heard_no_satellite_counts_from_the_gps_epoch() -> None:
    fix = fix_of(rmc(status="V", date="060180"))
    assert fix.is_clock_unset
    assert not fix_of(RMC).is_clock_unset


@pytest.mark.parametrize("date", ["320126", "10126", "0101266"])
def test_a_date_that_does_not_exist_is_unknown(date: str) -> None:
    assert decode(rmc(date=date)).fixes == ()


def test_epochs_are_parted_by_their_time() -> None:
    uplinks = NmeaCodec().decode(RMC + GGA + rmc(time="000001.00"))
    assert [uplink.fixes[0].alt_m for uplink in uplinks] == [1202.2, None]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "no sentence"),
        (b"\r\n", "no sentence"),
        (RMC.replace(b"*25", b"*24"), "checksum"),
        (RMC.replace(b"*25", b""), "with a checksum"),
        (encode_sentence("GPGSV,1,1,01,05,45,120,40"), "not an RMC"),
        (encode_sentence("PGRMC,000000.00"), "not an RMC"),
        (b"$GNRMC,\xff*00", "not ASCII"),
    ],
)
def test_what_cannot_be_read_says_why(payload: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        NmeaCodec().decode(payload)
