"""The codec of a frame: by framing on a serial line, by topic on a broker."""

from __future__ import annotations

import pytest

from firmware_bridge.codecs.registry import FORMATS, codec_for, decode_frame
from firmware_bridge.frames import Frame
from shared.errors import FrameError

SHORT = bytes.fromhex("930e00b95569c46694fe025641160600")


def test_every_format_has_one_codec_of_its_name() -> None:
    assert sorted(FORMATS) == [
        "aprs", "cayenne_lpp", "chirpstack_v4", "digital_matter_oyster", "earthranger", "gundi_v2", "iridium_directip",
        "kiss_ax25", "lotek_json", "meshtastic_mqtt", "meshtastic_serial", "movebank_csv", "movebank_live_feed",
        "nmea0183", "nmea_wpl", "opencollar", "opencollar_buffer", "opencollar_gen1", "opencollar_lp0", "outpost_json",
        "outpost_station_frame", "rak_at", "rn2483", "rnode", "rockblock_http", "sigfox_rhino_v1",
        "the_things_stack_v3", "ubx_nav_pvt", "vectronic_json",
    ]  # fmt: skip
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
        (Frame("mqtt", b"", "v3/collars@ttn/devices/oc-0042/up"), "the_things_stack_v3"),
        (Frame("mqtt", b"", "v3/collars/devices/oc-0042/up"), "the_things_stack_v3"),
        (Frame("mqtt", b"", "msh/EU_868/2/json/LongFast/!7efeee00"), "meshtastic_mqtt"),
        (Frame("mqtt", b"", "msh/US/CA/2/e/LongFast/!7efeee00"), "meshtastic_mqtt"),
        (Frame("mqtt", b"", "msh/US/CA/Bay/2/e/LongFast/!7efeee00"), "meshtastic_mqtt"),
        (Frame("rnode", b""), "rnode"),
        (Frame("rak", b""), "rak_at"),
        (Frame("rn2483", b""), "rn2483"),
        (Frame("lp0", b""), "opencollar_lp0"),
        (Frame("meshtastic", b""), "meshtastic_serial"),
        (Frame("wpl", b""), "nmea_wpl"),
        (Frame("ax25", b""), "kiss_ax25"),
        (Frame("aprs", b""), "aprs"),
        (Frame("directip", b""), "iridium_directip"),
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
        Frame("mqtt", b"", "v3/collars@ttn/devices/oc-0042/join"),
        Frame("mqtt", b"", "msh/EU_868/2/map/LongFast/!7efeee00"),
    ],
)
def test_a_frame_that_nobody_takes_is_a_frame_error(frame: Frame) -> None:
    with pytest.raises(FrameError, match="no codec for"):
        decode_frame(frame)


@pytest.mark.parametrize("framing", ["cobs", "kiss", "slip"])
def test_a_bare_message_is_read_on_every_serial_framing(framing: str) -> None:
    (uplink,) = decode_frame(Frame(framing, SHORT))  # type: ignore[arg-type]
    assert uplink.fixes[0].lat_deg == -2.3828796
