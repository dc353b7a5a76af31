"""The values that pass between links, framing and codecs.

::

    bytes on a wire --framing--> Frame --ledger--> Frame --codec--> Uplink(fixes, status)

Framing and codecs are pure; a Link is the only thing that touches a port.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

Framing = Literal[
    "cobs", "kiss", "slip", "nmea", "ubx", "mqtt", "rnode", "rak", "rn2483", "lp0", "meshtastic", "wpl", "ax25", "aprs",
    "directip", "rockblock",
]  # fmt: skip


class Frame(msgspec.Struct, frozen=True):
    """One unit of a link: what stood between two delimiters, unescaped and with its checksum verified and removed.

    ``payload`` of framing ``nmea`` is one epoch: the sentences that share a time of day, with CRLF
    after each and their checksums kept. That of ``ubx``, ``meshtastic``, ``directip`` and ``rnode`` is the message as
    it stands on the wire, and that of ``rak``, ``rn2483``, ``lp0``, ``wpl`` and ``aprs`` one line without its end.
    ``rockblock`` is the body of a request to RockBLOCK's hook. ``topic`` is the MQTT topic, empty on serial links.
    """

    framing: Framing
    payload: bytes
    topic: str = ""


class FrameDecoder(Protocol):
    """Turn a byte stream into frames. Any chunking gives the same frames; memory is bounded."""

    @property
    def skipped(self) -> int:
        """Bytes that belonged to no valid frame."""
        ...

    @property
    def damaged(self) -> int:
        """Frames refused: wrong checksum, bad escape, too long, cut short."""
        ...

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes."""
        ...

    def flush(self) -> list[Frame]:
        """Return what can be said now that the line is silent: a false start must not hold up a real frame."""
        ...


class TimeOfDay(msgspec.Struct, frozen=True):
    """What a device says of an instant when it leaves out the date, or all of it but the day of the month; UTC."""

    hour: int
    minute: int
    second: int = 0
    day_of_month: int | None = None


class DecodedFix(msgspec.Struct, frozen=True, kw_only=True):
    """A position as a payload gives it. ``lon_deg`` and ``lat_deg`` are None where the receiver failed to fix.

    ``recorded_at`` is the device's own time, or None where it gives none; ``time_of_day`` is what it gives instead.
    ``codecs.timing`` says what can be made of either.
    """

    recorded_at: datetime | None
    lon_deg: float | None
    lat_deg: float | None
    alt_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    hdop: float | None = None
    pdop: float | None = None
    sats: int | None = None
    h_acc_m: float | None = None
    seq: int | None = None
    battery_mv: int | None = None
    temperature_c: float | None = None
    is_clock_unset: bool = False
    time_of_day: TimeOfDay | None = None


class DeviceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says of itself."""

    battery_mv: int | None = None
    battery_pct: float | None = None
    temperature_c: float | None = None
    firmware: str | None = None
    hardware: str | None = None
    uptime_raw: int | None = None
    errors: tuple[str, ...] = ()


class Uplink(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded message and how it arrived.

    ``device`` is the radio id with its kind (``eui:0101010101010101``, ``collar:COL001``), or empty where the payload
    names none and the link's own device is meant. ``details`` holds every field of the message under its own name, for
    ``outpost-station decode`` and for the tests.
    """

    format: str
    device: str = ""
    port: int | None = None
    fixes: tuple[DecodedFix, ...] = ()
    status: DeviceStatus | None = None
    network_time: datetime | None = None
    device_time: datetime | None = None
    rssi_dbm: float | None = None
    snr_db: float | None = None
    gateway: str | None = None
    receipt_topic: str | None = None
    details: dict[str, Any] = {}


class Codec(Protocol):
    """Payload to uplinks: pure, and FrameError for what cannot be read."""

    format: str

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return what the payload says; raises FrameError with the reason."""
        ...


class Heard(msgspec.Struct, frozen=True):
    """A frame and the link's own receipt for it, handed back to ``Link.acknowledge`` after the commit."""

    frame: Frame
    token: Any = None


class LinkStatus(msgspec.Struct, kw_only=True):
    """What the status page shows of a link; counters since start."""

    name: str
    kind: str
    address: str
    is_up: bool = False
    frames: int = 0
    bytes_read: int = 0
    skipped_bytes: int = 0
    damaged_frames: int = 0
    reconnects: int = 0
    last_frame_at: datetime | None = None
    last_error: str = ""


class Link(Protocol):
    """One wire to collars. It reconnects by itself; ``read`` simply waits meanwhile."""

    name: str
    #: radio id for payloads that name no device (a tag on a cable); empty: such payloads stand under ``link:NAME``
    device: str

    @property
    def status(self) -> LinkStatus:
        """Counters and state."""
        ...

    async def read(self) -> list[Heard]:
        """Wait for frames; raises LinkClosed after ``close`` or at the end of a capture."""
        ...

    async def acknowledge(self, heard: Sequence[Heard]) -> None:
        """Tell the peer, where it listens, that these frames are on this station's disk."""
        ...

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send a receipt and come back once the peer has it, where the link can; a link that cannot ignores it."""
        ...

    async def close(self) -> None:
        """End the link; a waiting ``read`` raises LinkClosed."""
        ...
