"""NMEA epochs, UBX messages and both on one line."""

from __future__ import annotations

import struct

import pytest

from firmware_bridge.frames import Frame
from firmware_bridge.framing.mixed import MixedDecoder
from firmware_bridge.framing.nmea import NmeaDecoder, encode_sentence
from firmware_bridge.framing.scanner import MAX_SENTENCE
from firmware_bridge.framing.ubx import NAV_PVT, UbxDecoder, encode_ubx

RMC = b"$GNRMC,000000.00,A,0222.972776,S,03720.283660,E,1.4,123.4,010126,,,A,V*25\r\n"
GGA = b"$GNGGA,000000.00,0222.972776,S,03720.283660,E,1,09,1.01,1202.2,M,-15.2,M,,*49\r\n"
NEXT_RMC = encode_sentence("GNRMC,000001.00,A,0222.972776,S,03720.283660,E,1.4,123.4,010126,,,A,V")
GSV = encode_sentence("GPGSV,1,1,01,05,45,120,40")
PVT = encode_ubx(*NAV_PVT, bytes(92))
EPOCH = Frame("nmea", RMC + GGA)


def test_the_sentences_of_one_time_are_one_frame_once_the_next_begins() -> None:
    decoder = NmeaDecoder()
    assert decoder.feed(RMC + GGA) == []
    assert decoder.feed(NEXT_RMC) == [EPOCH]
    assert decoder.flush() == [Frame("nmea", NEXT_RMC)]
    assert decoder.flush() == []


def test_a_repeated_type_begins_an_epoch() -> None:
    assert NmeaDecoder().feed(RMC + GGA + RMC) == [EPOCH]


def test_one_time_may_be_written_with_more_decimals() -> None:
    gga = encode_sentence("GPGGA,000000.000,0222.9,S,03720.2,E,1,09,1.01,1202.2,M,-15.2,M,,")
    decoder = NmeaDecoder()
    decoder.feed(RMC + gga)
    assert decoder.flush() == [Frame("nmea", RMC + gga)]


def test_sentences_without_position_and_time_are_counted_and_do_not_end_an_epoch() -> None:
    decoder = NmeaDecoder()
    cold = encode_sentence("GNRMC,,V,,,,,,,,,,N,V")
    decoder.feed(RMC + GSV + GGA + cold + encode_sentence("PUBX,00,000000.00"))
    assert decoder.flush() == [EPOCH]
    assert (decoder.ignored, decoder.skipped, decoder.damaged) == (3, 0, 0)


@pytest.mark.parametrize(
    "broken",
    [
        RMC.replace(b"*25", b"*24"),
        RMC.replace(b"*25", b""),
        RMC.replace(b"*25", b"*2"),
        RMC.replace(b"0222", b"\xb5222"),
        RMC[:30],
        RMC.replace(b"A,V*", b"A,V" + b"," * MAX_SENTENCE + b"*"),
    ],
)
def test_a_sentence_without_a_true_checksum_is_damaged(broken: bytes) -> None:
    decoder = NmeaDecoder()
    assert decoder.feed(broken + GGA + NEXT_RMC) == [Frame("nmea", GGA)]
    assert decoder.damaged == 1
    assert decoder.skipped == len(broken)


def test_a_sentence_without_line_end_is_given_on_silence() -> None:
    decoder = NmeaDecoder()
    decoder.feed(RMC[:-2])
    assert decoder.flush() == [Frame("nmea", RMC)]


def test_noise_between_sentences_is_skipped() -> None:
    decoder = NmeaDecoder()
    decoder.feed(b"\x00\xff\r\nboot" + RMC + b"xx\r\n" + GGA)
    assert decoder.flush() == [EPOCH]
    assert (decoder.skipped, decoder.damaged) == (12, 0)


def test_a_ubx_frame_is_the_complete_message() -> None:
    decoder = UbxDecoder()
    assert decoder.feed(b"\xb5" + PVT + b"\x62") == [Frame("ubx", PVT)]
    assert (decoder.skipped, decoder.damaged) == (2, 0)


def test_messages_that_nobody_asked_for_are_ignored() -> None:
    decoder = UbxDecoder(frozenset({NAV_PVT}))
    satellites = encode_ubx(0x01, 0x35, bytes(20))
    assert decoder.feed(satellites + PVT + satellites) == [Frame("ubx", PVT)]
    assert decoder.ignored == 2
    assert UbxDecoder().feed(satellites) == [Frame("ubx", satellites)]


def test_real_messages_inside_the_claim_of_a_false_sync_word_are_found() -> None:
    decoder = UbxDecoder()
    false = b"\xb5\x62\x01\x07" + struct.pack("<H", len(PVT) * 2 - 2)
    assert decoder.feed(false + PVT) == []
    assert decoder.feed(PVT) == [Frame("ubx", PVT)] * 2
    assert decoder.damaged == 1


def test_a_false_sync_word_with_an_impossible_length_holds_nothing_up() -> None:
    decoder = UbxDecoder()
    assert decoder.feed(b"\xb5\x62\x01\x07\xff\xff" + PVT) == [Frame("ubx", PVT)]
    assert (decoder.skipped, decoder.damaged) == (6, 0)


def test_a_silence_frees_what_a_false_sync_word_held_up() -> None:
    decoder = MixedDecoder()
    assert decoder.feed(b"\xb5\x62\x01\x07\x00\x07" + RMC + GGA + PVT) == []
    assert decoder.flush() == [EPOCH, Frame("ubx", PVT)]
    assert decoder.damaged == 1


def test_frames_of_both_kinds_come_in_the_order_of_the_line() -> None:
    decoder = MixedDecoder()
    assert decoder.feed(RMC + GGA + PVT + NEXT_RMC) == [EPOCH, Frame("ubx", PVT)]
    assert decoder.flush() == [Frame("nmea", NEXT_RMC)]


def test_a_message_that_holds_a_sentence_is_one_frame() -> None:
    message = encode_ubx(0x01, 0x07, RMC.ljust(92, b"$"))
    assert MixedDecoder().feed(message) == [Frame("ubx", message)]


def test_a_message_ends_a_sentence_that_lost_its_end() -> None:
    decoder = MixedDecoder()
    assert decoder.feed(RMC[:20] + PVT) == [Frame("ubx", PVT)]
    assert (decoder.skipped, decoder.damaged) == (20, 1)


def test_half_a_sync_word_at_the_end_of_a_read_is_kept() -> None:
    decoder = MixedDecoder()
    assert decoder.feed(GGA[:20] + PVT[:1]) == []
    assert decoder.feed(PVT[1:]) == [Frame("ubx", PVT)]
