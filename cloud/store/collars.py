"""The collars of the fixes of one call: their names, who wears them, where their fixes lie, what they said last.

Whoever writes fixes of a collar has its row locked from ``know`` to the end of the transaction, so each batch judges a
set that nobody else is changing. Rows are locked in the order of their keys: nobody waits in a ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from cloud.store.appending import Columns
from cloud.store.arrays import bytes_array, numbers_array, texts_array
from cloud.store.database import Connection
from cloud.store.neighbourhood import Bounds
from cloud.store.records import Noted
from cloud.store.texts import cleaned
from shared.domain import HeardDevice
from shared.movement.quality import limits_of
from shared.sync.fixes import CollarFacts, Row, Wearing
from shared.sync.operations import STANDS_FOR

_KEEP_BOUNDS: Final = """
    UPDATE collars c SET first_fix_ms = n.first_ms, last_fix_ms = n.last_ms, has_rolled = n.has_rolled <> 0,
      calm_end = n.calm_end,
      last_heard_ms = CASE WHEN coalesce(c.last_heard_ms, 0) < n.heard_ms THEN n.heard_ms ELSE c.last_heard_ms END,
      battery_mv = CASE WHEN coalesce(c.last_heard_ms, 0) < n.heard_ms THEN coalesce(n.mv, c.battery_mv)
        ELSE c.battery_mv END,
      battery_pct = CASE WHEN coalesce(c.last_heard_ms, 0) < n.heard_ms THEN coalesce(n.pct, c.battery_pct)
        ELSE c.battery_pct END
    FROM unnest(%(pks)s::bigint[], %(firsts)s::bigint[], %(lasts)s::bigint[], %(rolled)s::smallint[], %(ends)s::bytea[],
      %(heard)s::bigint[], %(mv)s::bigint[], %(pct)s::float8[])
      n (pk, first_ms, last_ms, has_rolled, calm_end, heard_ms, mv, pct)
    WHERE c.pk = n.pk
"""


class Absorbed(msgspec.Struct, frozen=True):
    """A collar that turns out to be another one, with what it last said of itself."""

    pk: int
    heard_ms: int | None
    battery_mv: int | None
    battery_pct: float | None
    firmware: str | None


class Collars:
    """The collars of one call, in its transaction; ``lines`` takes what the change log is to say of them.

    ``facts`` are theirs by the name under which a fix names them, ``bounds`` by key.
    """

    def __init__(self, connection: Connection, now_ms: int, origin: str, lines: list[Noted]) -> None:
        self._connection = connection
        self._now_ms = now_ms
        self._origin = origin
        self._lines = lines
        self.facts: dict[str, CollarFacts] = {}
        self.bounds: dict[int, Bounds] = {}
        self._heard: dict[int, tuple[int, int | None, float | None]] = {}
        #: the calm ends of collars that were judged, to be kept with their bounds
        self._ends: dict[int, bytes | None] = {}

    async def know(self, names: set[str]) -> None:
        """Load the facts of the collars that ``names`` stand for, entering unknown ones, and lock them."""
        if not (names := names - self.facts.keys()):
            return
        plain = {name: cleaned(name.removeprefix("collar:")) for name in names}
        pks = await self._resolve(plain.values())
        if missing := sorted(set(plain.values()) - pks.keys()):
            await self._enter(missing)
            pks |= await self._resolve(missing)
        known = numbers_array(sorted(set(pks.values())))
        found = await self._connection.cursor(binary=True).execute(
            "SELECT pk, id, stands_for_animal_pk, deleted_ms, limits, first_fix_ms, last_fix_ms, has_rolled, calm_end"
            " FROM collars WHERE pk = ANY(%s::bigint[]) ORDER BY pk FOR NO KEY UPDATE",
            (known,),
        )
        collars = await found.fetchall()
        if gone := [(pk, identity) for pk, identity, _, deleted_ms, *_ in collars if deleted_ms is not None]:
            # they were taken off the list and are heard again
            await self._connection.execute(
                "UPDATE collars SET deleted_ms = NULL, updated_ms = %s, rev = rev + 1 WHERE pk = ANY(%s)",
                (self._now_ms, [pk for pk, _ in gone]),
            )
            self._lines += [Noted("collar", identity, "insert", self._origin) for _, identity in gone]
        wearings: dict[int, list[tuple[Wearing, str]]] = {}
        found = await self._connection.execute(
            "SELECT d.collar_pk, d.started_ms, d.ended_ms, d.animal_pk, a.id, a.species FROM deployments d"
            " JOIN animals a ON a.pk = d.animal_pk WHERE d.collar_pk = ANY(%s::bigint[]) AND d.deleted_ms IS NULL"
            " ORDER BY d.started_ms",
            (known,),
        )
        for collar_pk, *wearing, species in await found.fetchall():
            wearings.setdefault(collar_pk, []).append((Wearing(*wearing), species))
        stood_for = {pk: stands_for for pk, _, stands_for, *_ in collars if stands_for is not None}
        species_of = await self._species(stood_for.values())
        facts = {}
        for pk, identity, stands_for, _, own, *bounds in collars:
            worn = wearings.get(pk, [])
            species = species_of.get(stands_for) if stands_for is not None else worn[-1][1] if worn else None
            facts[pk] = CollarFacts(pk, identity, stands_for, [each for each, _ in worn], limits_of(species, own))
            self.bounds[pk] = Bounds(*bounds)
        for name, bare in plain.items():
            self.facts[name] = facts[pks[bare]]

    async def existing(self, names: Iterable[str]) -> set[str]:
        """Return those of ``names`` under which a collar is known."""
        return set(await self._resolve(names))

    async def animal_pks(self, ids: Iterable[str | None]) -> dict[str | None, int]:
        """Return the keys of the animals of these ids that there are."""
        wanted = [identity for identity in ids if identity is not None]
        if not wanted:
            return {}
        found = await self._connection.execute("SELECT id, pk FROM animals WHERE id = ANY(%s)", (wanted,))
        return {identity: int(pk) for identity, pk in await found.fetchall()}

    @property
    def pks(self) -> list[int]:
        """The collars that this call has dealt with."""
        return sorted({collar.pk for collar in self.facts.values()})

    # --- what they said of themselves

    def note_heard(self, columns: Columns) -> None:
        """Take note of when the collars of a batch were heard and what they said of their batteries."""
        heard, pk_of = self._heard, {name: collar.pk for name, collar in self.facts.items()}
        said = (columns[name] for name in ("collar_id", "received_ms", "battery_mv", "battery_pct"))
        for name, received_ms, battery_mv, battery_pct in zip(*said, strict=True):
            pk = pk_of[name]
            if pk not in heard or heard[pk][0] < received_ms:
                heard[pk] = (received_ms, battery_mv, battery_pct)

    async def hear(self, heard: Sequence[HeardDevice]) -> None:
        """Note when devices were heard and what they said of themselves, unless something newer is known.

        Their lines for the change log come with those of the next fixes.
        """
        if not heard:
            return
        await self.know({each.device for each in heard})
        pk_of = {each.device: self.facts[each.device].pk for each in heard}
        ordered = sorted(heard, key=lambda each: (pk_of[each.device], each.heard_ms))
        async with self._connection.cursor() as cursor:
            await cursor.executemany(
                "UPDATE collars SET last_heard_ms = %(heard)s, battery_mv = coalesce(%(mv)s, battery_mv),"
                " battery_pct = coalesce(%(pct)s, battery_pct), firmware = coalesce(%(firmware)s, firmware)"
                " WHERE pk = %(pk)s AND (coalesce(last_heard_ms, 0) <= %(heard)s OR last_heard_ms > %(now)s)",
                [
                    {
                        "heard": each.heard_ms, "mv": each.battery_mv, "pct": each.battery_pct,
                        "firmware": cleaned(each.firmware), "pk": pk_of[each.device], "now": self._now_ms,
                    }
                    for each in ordered
                ],
            )  # fmt: skip

    async def absorbed(self, name: str) -> Absorbed | None:
        """Lock the collar that is to be absorbed and return its last words; None where there is none."""
        found = await self._connection.execute(
            "SELECT pk, last_heard_ms, battery_mv, battery_pct, firmware FROM collars WHERE id = %s FOR UPDATE",
            (name,),
        )
        row = await found.fetchone()
        return None if row is None else Absorbed(*row)

    async def absorb(self, absorbed: Absorbed, into_pk: int) -> None:
        """Keep what a collar last said of itself under another that it was all along, and who brought its fixes."""
        await self._connection.execute(
            "UPDATE collars SET battery_mv = CASE WHEN %(newer)s > coalesce(last_heard_ms, 0)"
            " THEN coalesce(%(mv)s, battery_mv) ELSE coalesce(battery_mv, %(mv)s) END,"
            " battery_pct = CASE WHEN %(newer)s > coalesce(last_heard_ms, 0)"
            " THEN coalesce(%(pct)s, battery_pct) ELSE coalesce(battery_pct, %(pct)s) END,"
            " firmware = CASE WHEN %(newer)s > coalesce(last_heard_ms, 0)"
            " THEN coalesce(%(firmware)s, firmware) ELSE coalesce(firmware, %(firmware)s) END,"
            " last_heard_ms = nullif(greatest(coalesce(last_heard_ms, 0), %(newer)s), 0) WHERE pk = %(pk)s",
            {
                "newer": absorbed.heard_ms or 0, "mv": absorbed.battery_mv, "pct": absorbed.battery_pct,
                "firmware": absorbed.firmware, "pk": into_pk,
            },
        )  # fmt: skip
        await self._connection.execute("UPDATE collars SET calm_end = NULL WHERE pk = %s", (absorbed.pk,))
        # who brought fixes under the old name may read them under the new one
        await self._connection.execute(
            "INSERT INTO station_collars (station_id, collar_pk, is_brought) SELECT station_id, %s, is_brought"
            " FROM station_collars WHERE collar_pk = %s ON CONFLICT (station_id, collar_pk) DO UPDATE"
            " SET is_brought = station_collars.is_brought OR excluded.is_brought",
            (into_pk, absorbed.pk),
        )

    # --- where their fixes lie

    def ends_calmly(self, pk: int, end: bytes | None) -> None:
        """Have the calm end of a collar that was judged kept with its bounds."""
        self._ends[pk] = end

    def may_have(self, row: Row) -> bool:
        """Say whether ``row`` can be there already: what is newer than all that there is of its collar cannot."""
        bounds = self.bounds[row["collar_pk"]]
        if bounds.first_ms is None or bounds.last_ms is None:
            return False
        return bounds.has_rolled or bounds.first_ms <= row["raw_ms"] <= bounds.last_ms

    async def widen(self, rows: Iterable[Row]) -> None:
        """Widen the bounds of the collars of ``rows`` where they reach beyond them, and note what was heard of them."""
        widened: dict[int, Bounds] = {}
        for row in rows:
            pk, ms = row["collar_pk"], row["recorded_ms"]
            if (bounds := widened.get(pk)) is None:
                bounds = widened[pk] = msgspec.structs.replace(self.bounds[pk])
            bounds.first_ms = ms if bounds.first_ms is None else min(bounds.first_ms, ms)
            bounds.last_ms = ms if bounds.last_ms is None else max(bounds.last_ms, ms)
            bounds.has_rolled |= ms != row["raw_ms"]
        ends, self._ends = self._ends, {}
        for pk, end in ends.items():
            if pk not in widened:
                widened[pk] = msgspec.structs.replace(self.bounds[pk])
            widened[pk].calm_end = end
        await self.keep_bounds(widened)

    async def keep_bounds(self, widened: Mapping[int, Bounds]) -> None:
        """Write the bounds of collars where they are others than before, and what was heard of them."""
        heard, self._heard = self._heard, {}
        changed = {pk: bounds for pk, bounds in widened.items() if bounds != self.bounds[pk]}
        self.bounds |= changed
        if not (touched := changed.keys() | heard.keys()):
            return
        pks = sorted(touched)
        bounds_of = [self.bounds[pk] for pk in pks]
        heard_of = [heard.get(pk, (None, None, None)) for pk in pks]
        await self._connection.execute(
            _KEEP_BOUNDS,
            {
                "pks": numbers_array(pks),
                "firsts": numbers_array([bounds.first_ms for bounds in bounds_of]),
                "lasts": numbers_array([bounds.last_ms for bounds in bounds_of]),
                "rolled": numbers_array([int(bounds.has_rolled) for bounds in bounds_of]),
                "ends": bytes_array([bounds.calm_end for bounds in bounds_of]),
                "heard": numbers_array([heard_ms for heard_ms, _, _ in heard_of]),
                "mv": numbers_array([mv for _, mv, _ in heard_of]),
                "pct": numbers_array([pct for _, _, pct in heard_of]),
            },
        )

    # --- rows

    async def _resolve(self, names: Iterable[str]) -> dict[str, int]:
        """Return the keys of the collars that ``names`` stand for: an alias comes before an id of its own."""
        found = await self._connection.execute(
            "SELECT n.name, coalesce(a.collar_pk, c.pk) FROM unnest(%s::text[]) n (name)"
            " LEFT JOIN collar_aliases a ON a.alias = n.name LEFT JOIN collars c ON c.id = n.name"
            " WHERE coalesce(a.collar_pk, c.pk) IS NOT NULL",
            (texts_array(list(names)),),
        )
        return {name: int(pk) for name, pk in await found.fetchall()}

    async def _enter(self, names: Sequence[str]) -> None:
        """Enter collars that are heard for the first time, in one order for everybody so that none waits in a ring."""
        animal_ids = {name: name.removeprefix(STANDS_FOR) for name in names if name.startswith(STANDS_FOR)}
        animal_pks = await self.animal_pks(set(animal_ids.values()))
        stands_for = [animal_pks.get(animal_ids.get(name)) for name in names]
        cursor = await self._connection.execute(
            "INSERT INTO collars (id, stands_for_animal_pk, rev, cloud_rev, marks, created_ms, updated_ms)"
            " SELECT id, pk, 1, 0, '{}', %(now)s, %(now)s FROM unnest(%(ids)s::text[], %(pks)s::bigint[]) n (id, pk)"
            " ON CONFLICT (id) DO NOTHING RETURNING id",
            {"now": self._now_ms, "ids": list(names), "pks": stands_for},
        )
        self._lines += [
            Noted("collar", identity, "insert", self._origin)
            for (identity,) in await cursor.fetchall()
            if not identity.startswith(STANDS_FOR)  # stands for an animal, perhaps for one that comes later
        ]

    async def _species(self, pks: Iterable[int]) -> dict[int, str]:
        wanted = list(pks)
        if not wanted:
            return {}
        found = await self._connection.execute("SELECT pk, species FROM animals WHERE pk = ANY(%s)", (wanted,))
        return {int(pk): str(species) for pk, species in await found.fetchall()}
