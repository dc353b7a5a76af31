"""The codec of a frame: by framing on a serial line, by topic on a broker."""

from __future__ import annotations

import pytest

from firmware_bridge.codecs.registry import FORMATS, codec_for, decode_frame
from firmware_bridge.frames import Frame
from shared.errors import FrameError

SHORT = bytes.fromhex("930e00b95569c46694fe025641160600")


def test_every_format_has_one_codec_of_its_name() -> None:
    assert sorted(FORMATS) == [
        "chirpstack_v4",
        "nmea0183",
        "opencollar",
        "outpost_json",
        "outpost_station_frame",
        "ubx_nav_pvt",
    ]
    assert all(codec.format == name for name, codec in FORMATS.items())


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (Frame("cobs", b""), "outpost_station_frame"),
        (Frame("kiss", b""), "outpost_station_frame"),
        (Frame("slip", b""), "outpost_station_frame"),
        (Frame("nmea", b""), "nmea0183"),
        (Frame("ubx", b""), "ubx_nav_pvt"),
        (Frame("mqtt", b"", "application/1/device/0101010101010101/event/up"), "chirpstack_v4"),
        (Frame("mqtt", b"", "application/1/device/0101010101010101/event/status"), "chirpstack_v4"),
        (Frame("mqtt", b"", "outpost/s/g/fix"), "outpost_json"),
    ],
)
def test_framing_and_topic_pick_the_codec(frame: Frame, name: str) -> None:
    assert codec_for(frame).format == name


@pytest.mark.parametrize(
    "frame",
    [
        Frame("mqtt", b""),
        Frame("mqtt", b"", "outpost/s/g/ack"),
        Frame("mqtt", b"", "outpost/s//fix"),
        Frame("mqtt", b"", "outpost/s/g/fix/more"),
        Frame("mqtt", b"", "application/1/device/0101010101010101/event/join"),
        Frame("mqtt", b"", "msh/EU_868/2/json/LongFast/!7efeee00"),
    ],
)
def test_a_frame_that_nobody_takes_is_a_frame_error(frame: Frame) -> None:
    with pytest.raises(FrameError, match="no codec for"):
        decode_frame(frame)


@pytest.mark.parametrize("framing", ["cobs", "kiss", "slip"])
def test_a_bare_message_is_read_on_every_serial_framing(framing: str) -> None:
    (uplink,) = decode_frame(Frame(framing, SHORT))  # type: ignore[arg-type]
    assert uplink.fixes[0].lat_deg == -2.3828796
