"""Which gateway hears what, when, and what goes wrong on the way: from transmissions to bytes on links.

Pure and seeded. The faults are those of the field:

duplicate   two gateways hear one transmission, or a collar repeats itself
reorder     a gateway holds a frame back while up to ``reorder`` later ones pass it; nothing is sent before its time
corrupt     a damaged copy (flipped bits, cut short) goes out beside the true one, or in its place where ``may_lose``
noise       bytes that are no frame at all, on serial lines

Damage that is put beside a true frame ends with a delimiter of its own, so it never costs a neighbour; and it is made
again until no decoder takes it for a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal

import msgspec
import numpy as np

from firmware_bridge.framing.cobs import CobsDecoder
from firmware_bridge.simulator.transmission import (
    Signal,
    Transmission,
    chirpstack_event,
    outpost_messages,
    serial_bytes,
    signal_from,
)
from shared.errors import Invalid

#: How a link carries a transmission.
Wrapping = Literal["serial", "chirpstack", "outpost"]
OutgoingKind = Literal["frame", "duplicate", "damaged", "noise"]
_DELIMITER = b"\x00"


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Probabilities per transmission; ``reorder`` is how many later ones may pass a held one."""

    duplicate: float = 0.0
    reorder: int = 0
    corrupt: float = 0.0
    noise: float = 0.0
    may_lose: bool = False


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes for link number ``link``, not before ``at``; a topic where the link is a broker."""

    at: datetime
    link: int
    kind: OutgoingKind
    topic: str
    data: bytes


class Plan:
    """Turn transmissions into bytes on the links whose wrappings are given; counts what it did."""

    def __init__(
        self,
        wrappings: Sequence[Wrapping],
        *,
        faults: Faults,
        seed: int,
        station: str = "station",
    ) -> None:
        if not wrappings:
            raise Invalid("a simulation needs at least one link")
        self._wrappings = tuple(wrappings)
        self._faults = faults
        self._station = station
        self._rng = np.random.default_rng([seed, 0xFA])
        #: held back: how many may still pass, and what
        self._held: list[tuple[int, list[Outgoing]]] = []
        self.transmissions = 0
        self.duplicates = 0
        self.corrupted = 0
        self.lost = 0

    def outgoing(self, transmissions: Iterable[Transmission]) -> Iterator[Outgoing]:
        """Yield what goes out, in order."""
        last_at: datetime | None = None
        for transmission in transmissions:
            self.transmissions += 1
            last_at = transmission.at
            copies = self._copies(transmission)
            yield from self._released(transmission.at)
            if self._faults.reorder and self._rng.random() < 0.3:
                self._held.append((int(self._rng.integers(1, self._faults.reorder + 1)), copies))
            else:
                yield from copies
        if last_at is not None:
            for _, copies in self._held:
                yield from _not_before(copies, last_at)
            self._held.clear()

    def _released(self, now: datetime) -> Iterator[Outgoing]:
        """Yield what has been passed often enough; the others are passed once more."""
        held, self._held = self._held, []
        for passes_left, copies in held:
            if passes_left == 0:
                yield from _not_before(copies, now)
            else:
                self._held.append((passes_left - 1, copies))

    def _copies(self, transmission: Transmission) -> list[Outgoing]:
        able = [index for index, wrapping in enumerate(self._wrappings) if self._can_carry(wrapping, transmission)]
        if not able:
            raise Invalid(
                f"{transmission.name} at {transmission.at.isoformat()}: its time needs a broker that carries JSON"
            )
        link = able[int(self._rng.integers(len(able)))]
        copies = self._wrap(transmission, link, "frame")
        if self._has_chance(self._faults.duplicate):
            self.duplicates += 1
            copies += self._wrap(transmission, able[int(self._rng.integers(len(able)))], "duplicate")
        if self._has_chance(self._faults.noise):
            copies = self._noise(transmission.at) + copies
        if copies and self._has_chance(self._faults.corrupt):
            self.corrupted += 1
            copies = self._corrupted(copies)
        return copies

    def _can_carry(self, wrapping: Wrapping, transmission: Transmission) -> bool:
        # A broker carries what OpenCollar cannot say as a gateway's JSON, whatever its usual form is.
        return transmission.message is not None or wrapping != "serial"

    def _wrap(self, transmission: Transmission, link: int, kind: OutgoingKind) -> list[Outgoing]:
        wrapping = self._wrappings[link]
        gateway = f"gateway-{link + 1}"
        messages: list[tuple[str, bytes]]
        if wrapping == "serial":
            messages = [("", serial_bytes(transmission, self._signal()))]
        elif wrapping == "chirpstack" and transmission.message is not None:
            messages = [chirpstack_event(transmission, self._signal(), f"{link + 1:016x}", self._rng)]
        else:
            messages = outpost_messages(transmission, self._station, gateway)
        return [Outgoing(at=transmission.at, link=link, kind=kind, topic=topic, data=data) for topic, data in messages]

    def _signal(self) -> Signal:
        return signal_from(self._rng)

    def _corrupted(self, copies: list[Outgoing]) -> list[Outgoing]:
        """Return the copies with the first one damaged: beside the true one, or in its place."""
        true = next(copy for copy in copies if copy.kind != "noise")
        data = self._damaged(true.data) if not true.topic else self._cut(true.data)
        damaged = msgspec.structs.replace(true, kind="damaged", data=data)
        at = copies.index(true)
        if self._faults.may_lose and self._rng.random() < 0.5:
            self.lost += 1
            return [*copies[:at], damaged, *copies[at + 1 :]]
        return [*copies[:at], damaged, *copies[at:]]

    def _damaged(self, frame: bytes) -> bytes:
        """Return a serial frame with flipped bits or cut short, ended by a delimiter, that no decoder accepts."""
        while True:
            broken = bytearray(frame.removesuffix(_DELIMITER))
            if self._rng.random() < 0.3:
                broken = broken[: int(self._rng.integers(1, len(broken)))]
            else:
                for _ in range(int(self._rng.integers(1, 5))):
                    broken[int(self._rng.integers(len(broken)))] ^= 1 << int(self._rng.integers(8))
            data = bytes(broken) + _DELIMITER
            if not _is_heard(data):
                return data

    def _cut(self, message: bytes) -> bytes:
        """Return the beginning of a JSON message: never valid JSON, so never a wrong fix."""
        return message[: int(self._rng.integers(1, len(message)))]

    def _noise(self, at: datetime) -> list[Outgoing]:
        serial = [index for index, wrapping in enumerate(self._wrappings) if wrapping == "serial"]
        if not serial:
            return []
        link = serial[int(self._rng.integers(len(serial)))]
        while True:
            data = self._rng.bytes(int(self._rng.integers(1, 40))) + _DELIMITER
            if not _is_heard(data):
                return [Outgoing(at=at, link=link, kind="noise", topic="", data=data)]

    def _has_chance(self, probability: float) -> bool:
        return probability > 0 and self._rng.random() < probability


def _is_heard(data: bytes) -> bool:
    decoder = CobsDecoder()
    return bool(decoder.feed(_DELIMITER + data))


def _not_before(copies: list[Outgoing], at: datetime) -> Iterator[Outgoing]:
    for copy in copies:
        yield copy if copy.at >= at else msgspec.structs.replace(copy, at=at)
