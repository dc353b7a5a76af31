"""A link as a configuration file describes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from firmware_bridge.codecs.meshtastic import JSON_TOPICS as MESHTASTIC_TOPICS
from firmware_bridge.frames import Link
from firmware_bridge.framing.registry import DECODERS
from firmware_bridge.transports.broker import MqttVersion
from firmware_bridge.transports.capture import CaptureLink, CaptureWriter, RecordedLink
from firmware_bridge.transports.mqtt import MqttLink
from firmware_bridge.transports.serial import SerialLink
from shared.errors import ConfigError

#: ChirpStack's uplinks and device status, The Things Stack's uplinks, the fixes of our own gateways, and Meshtastic.
DEFAULT_TOPICS = (
    "application/+/device/+/event/up",
    "application/+/device/+/event/status",
    "v3/+/devices/+/up",
    "outpost/+/+/fix",
    *MESHTASTIC_TOPICS,
)


class LinkSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One wire to collars.

    ``serial`` needs ``path``; ``mqtt`` needs ``host``; ``capture`` needs ``path``. ``record`` names a capture file that
    is written beside. ``client_id`` must be this station's alone: the broker knows the queue by it.
    """

    kind: Literal["serial", "mqtt", "capture"]
    name: str
    device: str = ""
    record: str = ""
    # serial and capture
    path: str = ""
    framing: str = "cobs"
    baud: int = 115200
    silence_s: float = 0.2
    speed: float | None = None
    # mqtt
    host: str = ""
    port: int = 1883
    client_id: str = ""
    topics: tuple[str, ...] = DEFAULT_TOPICS
    username: str | None = None
    password: str | None = None
    tls_ca: str | None = None
    mqtt_version: MqttVersion = "5"
    receive_maximum: int = 500


def link_from(
    spec: LinkSpec,
    *,
    now: Callable[[], datetime],
    monotonic: Callable[[], float] = time.monotonic,
) -> Link:
    """Return the link that ``spec`` describes, not yet opened; raises ConfigError for what cannot be one."""
    _check(spec)
    writer = CaptureWriter(Path(spec.record)) if spec.record else None
    tap = writer.tap if writer is not None else None
    link: Link
    if spec.kind == "serial":
        link = SerialLink(
            spec.name,
            spec.path,
            now=now,
            baud=spec.baud,
            framing=spec.framing,
            device=spec.device,
            silence_s=spec.silence_s,
            tap=tap,
            monotonic=monotonic,
        )
    elif spec.kind == "mqtt":
        link = MqttLink(
            spec.name,
            spec.host,
            spec.port,
            now=now,
            client_id=spec.client_id or f"outpost-{spec.name}",
            topics=spec.topics,
            username=spec.username,
            password=spec.password,
            tls_ca=spec.tls_ca,
            version=spec.mqtt_version,
            receive_maximum=spec.receive_maximum,
            device=spec.device,
            tap=tap,
        )
    else:
        link = CaptureLink(
            spec.name,
            spec.path,
            now=now,
            framing=spec.framing,
            speed=spec.speed,
            device=spec.device,
            monotonic=monotonic,
        )
    return RecordedLink(link, writer) if writer is not None else link


def _check(spec: LinkSpec) -> None:
    problems = []
    if not spec.name:
        problems.append("it has no name")
    if spec.kind in {"serial", "capture"} and not spec.path:
        problems.append("it needs a path")
    if spec.framing not in DECODERS:
        problems.append(f"framing {spec.framing!r} is not one of {', '.join(DECODERS)}")
    if spec.baud <= 0:
        problems.append("baud must be positive")
    if spec.silence_s <= 0:
        problems.append("silence_s must be positive")
    if spec.speed is not None and spec.speed <= 0:
        problems.append("speed must be positive")
    if spec.kind == "mqtt":
        if not spec.host:
            problems.append("it needs a host")
        if not spec.topics:
            problems.append("it needs a topic")
        if not 1 <= spec.port <= 65535:
            problems.append(f"port {spec.port} does not exist")
        if not 1 <= spec.receive_maximum <= 65535:
            problems.append("receive_maximum must be from 1 to 65535")
        if spec.password is not None and spec.username is None:
            problems.append("a password needs a username")
    if spec.kind == "capture" and spec.record:
        problems.append("a capture is not recorded again")
    if problems:
        raise ConfigError(f"link {spec.name or spec.kind!r}: {'; '.join(problems)}")
