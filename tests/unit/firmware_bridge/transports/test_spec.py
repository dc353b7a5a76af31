from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from firmware_bridge.frames import Link
from firmware_bridge.framing.cobs import encode_frame
from firmware_bridge.framing.registry import DECODERS
from firmware_bridge.transports.capture import CaptureLink, CaptureWriter, RecordedLink
from firmware_bridge.transports.mqtt import MqttLink
from firmware_bridge.transports.serial import SerialLink
from firmware_bridge.transports.spec import LinkSpec, link_from
from shared.errors import ConfigError

pytestmark = pytest.mark.unit


def now() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


def made(spec: LinkSpec) -> Link:
    return link_from(spec, now=now)


async def test_each_kind_makes_its_link() -> None:
    serial = made(LinkSpec(kind="serial", name="base", path="/dev/serial/by-id/usb-x", device="eui:0101010101010101"))
    assert isinstance(serial, SerialLink)
    assert serial.device == "eui:0101010101010101"
    assert (serial.status.kind, serial.status.address) == ("serial", "/dev/serial/by-id/usb-x")
    broker = made(LinkSpec(kind="mqtt", name="broker", host="localhost", username="u", password="secret"))
    assert isinstance(broker, MqttLink)
    assert broker.status.address == "localhost:1883"
    assert isinstance(made(LinkSpec(kind="capture", name="old", path="x.capture")), CaptureLink)


@pytest.mark.parametrize("framing", sorted(DECODERS))
async def test_every_framing_can_be_configured(framing: str) -> None:
    assert isinstance(made(LinkSpec(kind="serial", name="base", path="/dev/x", framing=framing)), SerialLink)


async def test_record_wraps_the_link(tmp_path: Path) -> None:
    link = made(LinkSpec(kind="mqtt", name="broker", host="localhost", record=str(tmp_path / "a.capture")))
    assert isinstance(link, RecordedLink)
    assert link.name == "broker"
    await link.close()
    assert (tmp_path / "a.capture").exists()


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (LinkSpec(kind="serial", name="base"), "needs a path"),
        (LinkSpec(kind="serial", name="", path="/dev/x"), "no name"),
        (LinkSpec(kind="serial", name="base", path="/dev/x", framing="morse"), "morse"),
        (LinkSpec(kind="serial", name="base", path="/dev/x", baud=0), "baud"),
        (LinkSpec(kind="serial", name="base", path="/dev/x", silence_s=0), "silence_s"),
        (LinkSpec(kind="mqtt", name="broker"), "needs a host"),
        (LinkSpec(kind="mqtt", name="broker", host="h", port=0), "port 0"),
        (LinkSpec(kind="mqtt", name="broker", host="h", topics=()), "topic"),
        (LinkSpec(kind="mqtt", name="broker", host="h", receive_maximum=0), "receive_maximum"),
        (LinkSpec(kind="mqtt", name="broker", host="h", password="p"), "username"),
        (LinkSpec(kind="capture", name="old", path="a", speed=0), "speed"),
        (LinkSpec(kind="capture", name="old", path="a", record="b"), "not recorded"),
    ],
)
def test_what_cannot_be_a_link_is_refused_with_the_reason(spec: LinkSpec, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        made(spec)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="baudrate"):
        msgspec.convert({"kind": "serial", "name": "base", "baudrate": 9600}, LinkSpec)


async def test_a_capture_spec_replays(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path / "a.capture")
    writer.tap("chunk", "", encode_frame(b"hello"))
    writer.close()
    link = made(LinkSpec(kind="capture", name="old", path=str(tmp_path / "a.capture")))
    assert [each.frame.payload for each in await link.read()] == [b"hello"]
    await link.close()
