"""Rosters for stations, signed with a key that follows from the cloud's secret."""

from __future__ import annotations

from cloud.store import stations
from cloud.store.database import Database
from shared.accounts import rosters, sealing
from shared.accounts.roster import HandOver, signed
from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.errors import NotAuthenticated


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
