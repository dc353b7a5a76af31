"""A simulated collar: a receiver that may fail, a radio that may be out of reach, a battery, a clock that may be wrong.

It speaks OpenCollar. Every ``fix_interval_s`` it tries for a fix and sends the long message, whether the fix succeeded
or not. Out of coverage it writes its messages to flash; back in coverage it sends the newest fix and then the whole log
on port 29, in payloads that LoRaWAN can carry. After a reboot its clock counts from the firmware's start value until
the next time it hears a satellite properly, and then jumps to the truth. Once a day it sends its status.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np

from firmware_bridge.codecs import opencollar
from firmware_bridge.simulator.movement import Position, Walker
from firmware_bridge.simulator.transmission import SimulatedFix, Transmission

#: Where the firmware's clock starts: 2020-11-25T14:29:35Z.
CLOCK_START = datetime.fromtimestamp(1_606_314_575, UTC)
#: What one LoRaWAN uplink carries at a middling data rate.
MAX_UPLINK_BYTES = 222
_STATUS_EVERY_S = 86_400
_FULL_MV, _EMPTY_MV = 4_150, 3_300
_RECORD_OVERHEAD_BYTES = 5


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """How badly a collar behaves; the defaults are a perfect one. Probabilities are per attempted fix."""

    failed_fix: float = 0.0
    leaves_coverage: float = 0.0
    mean_outage_s: float = 6 * 3_600.0
    reboot: float = 0.0
    resend: float = 0.0
    battery_life_s: float = 2 * 365 * 86_400.0


class Collar:
    """The transmissions of one animal's collar, in order of time and without end."""

    def __init__(
        self,
        *,
        eui: str,
        name: str,
        walker: Walker,
        start: datetime,
        fix_interval_s: int,
        phase_s: int,
        habits: Habits,
        battery_mv: int,
        rng: np.random.Generator,
    ) -> None:
        self.eui = eui
        self.name = name
        self.fix_interval_s = fix_interval_s
        self._walker = walker
        self._start = start
        self._phase_s = phase_s
        self._habits = habits
        self._full_mv = battery_mv
        self._rng = rng
        self._counter = 0
        self._last_at = start
        self._covered_from = start
        self._flash: list[tuple[opencollar.FlashRecord, SimulatedFix | None]] = []
        self._booted_at: datetime | None = None
        self._fixes_until_sync = 0
        self._last_good: tuple[datetime, Position] | None = None
        self._status_due = start + timedelta(seconds=float(rng.integers(0, 6 * 3_600)))

    def transmissions(self) -> Iterator[Transmission]:
        """Yield what the collar sends."""
        due = self._start + timedelta(seconds=self._phase_s)
        while True:
            yield from self._duty(due)
            due += timedelta(seconds=self.fix_interval_s)

    def _duty(self, now: datetime) -> Iterator[Transmission]:
        """Try for one fix at ``now`` and send or store what there is to say."""
        self._meet_fate(now)
        if now >= self._covered_from and self._has_chance(self._habits.resend) and self._last_good is not None:
            yield self._resend(now)
        port, message, fix = self._fix(now)
        sent_at = now + timedelta(seconds=float(self._rng.integers(2, 40)))
        if now < self._covered_from:
            self._store(port, message, now, fix)
            return
        yield self._send(sent_at, port, message, (fix,))
        if self._flash:
            yield from self._dump(sent_at)
        if now >= self._status_due:
            self._status_due = now + timedelta(seconds=_STATUS_EVERY_S)
            yield self._send(sent_at, opencollar.PORT_STATUS, self._status(now))

    def _meet_fate(self, now: datetime) -> None:
        if now >= self._covered_from and self._has_chance(self._habits.leaves_coverage):
            outage_s = float(self._rng.exponential(self._habits.mean_outage_s))
            self._covered_from = now + timedelta(seconds=outage_s)
        if self._has_chance(self._habits.reboot):
            self._booted_at = now
            self._fixes_until_sync = int(self._rng.integers(1, 4))

    def _fix(self, now: datetime) -> tuple[int, bytes, SimulatedFix]:
        position = self._walker.advance(now)
        recorded_at = self._device_time(now)
        battery_mv = self._battery_mv(now)
        if self._has_chance(self._habits.failed_fix):
            failed = SimulatedFix(recorded_at=recorded_at, lon_deg=None, lat_deg=None, battery_mv=battery_mv)
            message = opencollar.encode_long(recorded_at=recorded_at, lat_deg=None, lon_deg=None, ttf_s=180)
            return opencollar.PORT_LONG, message, failed
        if self._booted_at is None:
            self._last_good = recorded_at, position
        elif self._fixes_until_sync == 0:
            # The receiver has told the time: from the next fix on the clock is right.
            self._booted_at = None
        else:
            self._fixes_until_sync -= 1
        sats = int(self._rng.integers(5, 13))
        alt_m = 1_150.0 + round(float(self._rng.normal(0.0, 4.0)), 3)
        message = opencollar.encode_long(
            recorded_at=recorded_at,
            lat_deg=position.lat_deg,
            lon_deg=position.lon_deg,
            alt_m=alt_m,
            sats=sats,
            h_acc_m=float(self._rng.integers(2, 15)),
            pdop=float(self._rng.integers(1, 4)),
            ttf_s=int(self._rng.integers(3, 40)),
        )
        fix = SimulatedFix(
            recorded_at=recorded_at,
            lon_deg=position.lon_deg,
            lat_deg=position.lat_deg,
            alt_m=alt_m,
            sats=sats,
            battery_mv=battery_mv,
        )
        return opencollar.PORT_LONG, message, fix

    def _device_time(self, now: datetime) -> datetime:
        """Return what the collar's clock says: whole seconds, and the start value's future after a reboot."""
        told = now if self._booted_at is None else CLOCK_START + (now - self._booted_at)
        return told.replace(microsecond=0)

    def _store(self, port: int, message: bytes, now: datetime, fix: SimulatedFix | None) -> None:
        self._flash.append((opencollar.FlashRecord(port, message, self._device_time(now)), fix))

    def _dump(self, at: datetime) -> Iterator[Transmission]:
        batch: list[tuple[opencollar.FlashRecord, SimulatedFix | None]] = []
        size = 0
        for entry in self._flash:
            record_bytes = _RECORD_OVERHEAD_BYTES + len(entry[0].message)
            if size + record_bytes > MAX_UPLINK_BYTES:
                yield self._flash_log(at, batch)
                batch, size = [], 0
            batch.append(entry)
            size += record_bytes
        yield self._flash_log(at, batch)
        self._flash.clear()

    def _flash_log(self, at: datetime, batch: list[tuple[opencollar.FlashRecord, SimulatedFix | None]]) -> Transmission:
        payload = opencollar.encode_flash_log(record for record, _ in batch)
        fixes = tuple(fix for _, fix in batch if fix is not None)
        return self._send(at, opencollar.PORT_FLASH_LOG, payload, fixes)

    def _resend(self, now: datetime) -> Transmission:
        assert self._last_good is not None
        recorded_at, position = self._last_good
        message = opencollar.encode_resend(
            recorded_at=recorded_at, lat_deg=position.lat_deg, lon_deg=position.lon_deg, h_acc_m=8.0
        )
        fix = SimulatedFix(recorded_at=recorded_at, lon_deg=position.lon_deg, lat_deg=position.lat_deg)
        return self._send(now, opencollar.PORT_RESEND, message, (fix,))

    def _status(self, now: datetime) -> bytes:
        battery_mv = self._battery_mv(now)
        return opencollar.encode_status(
            battery_mv=battery_mv,
            temperature_c=float(self._rng.normal(27.0, 6.0)),
            uptime_raw=int((now - self._start).total_seconds() // 86_400) & 0xFF,
            errors=("bat",) if battery_mv < _EMPTY_MV + 150 else (),
        )

    def _battery_mv(self, now: datetime) -> int:
        used = (now - self._start).total_seconds() / self._habits.battery_life_s
        return max(_EMPTY_MV, round(self._full_mv - (_FULL_MV - _EMPTY_MV) * used))

    def _send(self, at: datetime, port: int, message: bytes, fixes: tuple[SimulatedFix, ...] = ()) -> Transmission:
        self._last_at = max(self._last_at, at)
        counter = self._counter
        self._counter += 1
        return Transmission(
            at=self._last_at,
            eui=self.eui,
            name=self.name,
            counter=counter,
            port=port,
            message=message,
            fixes=fixes,
        )

    def _has_chance(self, probability: float) -> bool:
        return probability > 0 and self._rng.random() < probability
