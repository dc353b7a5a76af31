"""Modems and stations that speak in lines."""

from __future__ import annotations

import pytest

from firmware_bridge.frames import Frame
from firmware_bridge.framing.lines import (
    MAX_LINE,
    AprsDecoder,
    OffloadDecoder,
    RakDecoder,
    Rn2483Decoder,
    WaypointDecoder,
)
from firmware_bridge.framing.nmea import encode_sentence

HEX = b"930E00B95569C46694FE025641160600"
EVENT = b"+EVT:RXP2P:-94:-6:" + HEX
OFFLOAD = b'{"gatewayEui": "0102030405060708", "rxpk": {"data": "AA=="}}'
WAYPOINT = encode_sentence("GPWPL,0222.97,S,03720.28,E,A").rstrip()


def test_a_reception_of_a_rak_modem_is_a_frame() -> None:
    assert RakDecoder().feed(EVENT + b"\r\n") == [Frame("rak", EVENT)]


def test_the_two_lines_of_older_rak_firmware_are_the_same_frame() -> None:
    decoder = RakDecoder()
    assert decoder.feed(b"+EVT:RXP2P, RSSI -94, SNR -6\r\n") == []
    assert decoder.feed(b"+EVT:" + HEX + b"\r\n") == [Frame("rak", EVENT)]


def test_the_signal_of_one_rak_reception_is_never_that_of_the_next() -> None:
    decoder = RakDecoder()
    decoder.feed(b"+EVT:RXP2P, RSSI -94, SNR -6\r\n+EVT:JOINED\r\n")
    assert decoder.feed(b"+EVT:" + HEX + b"\r\n") == []
    decoder.feed(b"+EVT:RXP2P, RSSI -94, SNR -6\r\n")
    decoder.flush()
    assert decoder.feed(b"+EVT:" + HEX + b"\r\n") == []


@pytest.mark.parametrize("news", [b"+EVT:RXP2P RECEIVE TIMEOUT", b"+EVT:RXP2P RECEIVE ERROR", b"+EVT:TX_DONE"])
def test_what_a_rak_modem_says_of_itself_is_ignored_and_no_damage(news: bytes) -> None:
    decoder = RakDecoder()
    assert decoder.feed(news + b"\r\n" + EVENT + b"\r\n") == [Frame("rak", EVENT)]
    assert (decoder.ignored, decoder.damaged) == (1, 0)


def test_a_reception_with_half_a_byte_is_damaged() -> None:
    decoder = RakDecoder()
    assert decoder.feed(EVENT[:-1] + b"\r\n") == []
    assert (decoder.damaged, decoder.skipped) == (1, len(EVENT) - 1)


def test_a_line_that_lost_its_end_costs_not_the_next() -> None:
    assert RakDecoder().feed(EVENT[:30] + EVENT + b"\n") == [Frame("rak", EVENT)]


def test_a_modems_own_text_is_skipped() -> None:
    decoder = Rn2483Decoder()
    line = b"radio_rx  " + HEX
    assert decoder.feed(b"a modem of version 1.0\r\nok\r\n" + line + b"\r\nradio_err\r\n") == [Frame("rn2483", line)]
    assert decoder.damaged == 0


def test_an_unfinished_line_is_given_up_on_silence_as_nothing_vouches_for_it() -> None:
    decoder = Rn2483Decoder()
    decoder.feed(b"radio_rx  930E00")
    assert decoder.flush() == []
    assert decoder.damaged == 1


def test_a_monitors_packets_are_frames_and_its_log_is_not() -> None:
    decoder = AprsDecoder()
    packet = b"COLLAR-7>APRS,WIDE1-1:!0222.97S/03720.28E[ a > b : c"
    assert decoder.feed(b"[INFO] LoRa ready\r\n" + packet + b"\r\n") == [Frame("aprs", packet)]
    assert decoder.skipped == len("[INFO] LoRa ready")


def test_a_waypoint_needs_its_checksum_and_other_sentences_are_ignored() -> None:
    decoder = WaypointDecoder()
    wire = WAYPOINT[:-2] + b"00\r\n" + encode_sentence("GPGGA,,,,,,0,,,,,,,,") + WAYPOINT + b"\r\n"
    assert decoder.feed(wire) == [Frame("wpl", WAYPOINT)]
    assert (decoder.damaged, decoder.ignored) == (1, 1)


def test_a_line_of_an_offload_station_ends_with_the_next_or_with_silence() -> None:
    decoder = OffloadDecoder()
    assert decoder.feed(b"\n" + OFFLOAD + b"\n" + OFFLOAD) == [Frame("lp0", OFFLOAD)]
    assert decoder.flush() == [Frame("lp0", OFFLOAD)]
    decoder.feed(OFFLOAD[:-2])
    assert decoder.flush() == []


def test_a_line_beyond_every_modems_length_is_given_up() -> None:
    decoder = RakDecoder()
    assert decoder.feed(b"+EVT:RXP2P:-94:-6:" + b"00" * MAX_LINE) == []
    assert decoder.feed(b"00\r\n" + EVENT + b"\r\n") == [Frame("rak", EVENT)]
