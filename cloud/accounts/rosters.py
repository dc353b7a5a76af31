"""What a station trusts the cloud for, signed with a key that follows from the cloud's secret: people, and models."""

from __future__ import annotations

from cloud.store import stations
from cloud.store.database import Database
from shared.accounts import rosters, sealing
from shared.accounts.facts import fact
from shared.accounts.roster import HandOver, signed
from shared.accounts.service import Accounts
from shared.accounts.users import Job, User
from shared.errors import NotAuthenticated
from shared.sync import shelves
from shared.wire.manifests import Chosen, StationShelf, sign_shelf


class Rosters:
    """Makes each station's roster and takes what it says of its people; ``secret`` is the cloud's."""

    def __init__(self, database: Database, accounts: Accounts, secret: bytes) -> None:
        self._database = database
        self._accounts = accounts
        self._seed = sealing.derived(secret, "rosters")

    @property
    def seed(self) -> bytes:
        """The seed of the cloud's key: stations pin its public half with their first roster."""
        return self._seed

    async def of(self, station_id: str) -> bytes:
        """Return the next roster of a station, signed; its seeds are sealed for the station's key."""
        async with self._database.snapshot() as connection:
            key = await stations.public_key_of(connection, station_id)
        if key is None:
            raise NotAuthenticated("this station is not known, or retired")
        public = key

        def seal(user: User) -> str | None:
            seed = self._accounts.unsealed_totp(user)
            return None if seed is None else sealing.seal_for(public, seed, f"totp {user.id}")

        now = self._accounts.moments()
        return signed(self._seed, await self._accounts.tables.write(rosters.roster_for(station_id, now, seal)))

    async def take(self, station_id: str, sent: HandOver) -> int:
        """Take a station's own people; return how many are new."""
        now = self._accounts.moments()
        return await self._accounts.tables.write(rosters.take_hand_over(station_id, sent, now, self._accounts.sealed))

    async def shelf_of(self, station_id: str, epoch: str | None, issue: int) -> bytes | None:
        """Return which models a station shall take, signed; None where it knows as much already."""
        shelf = await self._accounts.tables.read(_shelf_of(station_id))
        return None if (shelf.epoch, shelf.issue) == (epoch, issue) else sign_shelf(self._seed, shelf)


def _shelf_of(station_id: str) -> Job[StationShelf]:
    made = yield from shelves.choices()
    epoch = yield from fact("cloud_epoch")
    chosen = []
    for (model, name), choice in sorted(shelves.in_force(made, station_id).items()):
        if (model, name) in shelves.OF_THE_CLOUD:
            continue
        kept = yield from shelves.find(model, choice.version, name)
        chosen.append(
            Chosen(model=model, name=name, version=choice.version)
            if kept is None
            else Chosen(
                model=model, name=name, version=choice.version, manifest=kept.manifest, size=kept.size, key=kept.key,
                signature=kept.signature,
            )
        )  # fmt: skip
    return StationShelf(station_id=station_id, epoch=epoch or "", issue=made[-1].n if made else 0, chosen=chosen)
