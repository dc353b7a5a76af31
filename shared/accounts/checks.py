"""What both homes check before they let anybody do anything: attempts, codes, passwords, off the event loop.

A check that fails is counted in a transaction of its own before it is looked at: no refusal takes its count back.
At most two passwords are hashed at once: each takes 19 MiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec
import structlog

from shared.accounts import factors, limits, logins, rotation, sealing, users
from shared.accounts.facts import fact, set_fact
from shared.accounts.fields import FieldKeys, is_sealed
from shared.accounts.logins import Challenge
from shared.accounts.moments import Moment
from shared.accounts.passwords import Hasher
from shared.accounts.roles import Home, granted_by
from shared.accounts.tokens import Signer
from shared.accounts.users import Job, User
from shared.errors import Conflict, Forbidden, NotAuthenticated, OutpostError, RateLimited
from shared.privacy import Principal, Role, Species, species_listed
from shared.sayings import say

T = TypeVar("T")
log = structlog.get_logger(__name__)

HASHING_AT_ONCE: Final = 2
NOT_RIGHT: Final = say("refused.not_right")
CODE_NOT_RIGHT: Final = say("refused.code_not_right")
AT_STATION: Final = "this station sends no codes and makes no accounts by itself: an administrator adds them here"
AT_THE_CLOUD: Final = "this account is kept in the cloud: change it there, and the next roster brings it here"
#: Names of facts.
ROSTER_TAKEN: Final = "roster.taken_ms"


class Tables(Protocol):
    """Where a home keeps accounts: runs jobs, each in one transaction."""

    async def read(self, job: Job[T]) -> T:
        """Run a job that only reads."""
        ...

    async def write(self, job: Job[T]) -> T:
        """Run a job, one after the other; its error undoes all of it and comes back."""
        ...


Channel = Literal["mail", "sms"]


class Messenger(Protocol):
    """Sends codes to people, by mail where that is set up, else by SMS."""

    def channel(self, phone: str | None) -> Channel | None:
        """Return how a code would travel to somebody with this telephone number; None: not at all."""
        ...

    async def send_code(self, channel: Channel, to: str, code: str, minutes: int) -> None:
        """Send ``code``; raises LinkError where it cannot be sent."""
        ...


class Opened(msgspec.Struct, frozen=True):
    """A challenge as it is answered; ``factor`` says what kind of code is waited for."""

    otp_id: str
    factor: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What a person shows as second factor; empty where not."""

    code: str = ""
    next_code: str = ""
    recovery_code: str = ""


class Checks:
    """The checks of one home over its ``tables``; ``secret`` is the home's, 32 bytes that nobody else has."""

    def __init__(
        self,
        tables: Tables,
        *,
        home: Home,
        name: str,
        secret: bytes,
        moments: Callable[[], Moment],
        now_ms: Callable[[], int | None],
        messenger: Messenger | None = None,
        species: Species | None = None,
        hasher: Hasher | None = None,
        fields: FieldKeys | None = None,
    ) -> None:
        self.tables = tables
        self.home = home
        self.name = name
        self.moments = moments
        self.signer = Signer(sealing.derived(secret, "tokens"), f"outpost-{home}:{name}")
        self.hasher = hasher or Hasher()
        self._now_ms = now_ms
        self._messenger = messenger
        self._species = species
        #: what seals personal fields
        self.fields = fields or FieldKeys(secret)
        self._unmarked_key = sealing.derived(secret, "seeds")
        self._pepper = sealing.derived(secret, "codes")
        self._veil = sealing.IdVeil(sealing.derived(secret, "ids"))
        self._hashing = asyncio.Semaphore(HASHING_AT_ONCE)
        self._sending: set[asyncio.Task[None]] = set()

    async def drain(self) -> None:
        """Wait until the codes that are being sent are sent, or have failed."""
        while self._sending:
            await asyncio.wait(self._sending)

    def sealed(self, user_id: str, seed: str) -> str:
        """Return a TOTP secret as it is kept."""
        return self.fields.sealed(rotation.seed_place(user_id), seed)

    def _unsealed(self, user_id: str, kept: str) -> str:
        return (
            self.fields.opened(rotation.seed_place(user_id), kept) if is_sealed(kept) else self._before(user_id, kept)
        )

    def _before(self, user_id: str, kept: str) -> str:
        """Open a TOTP secret that was sealed before keys had names."""
        return sealing.unseal(self._unmarked_key, kept, f"totp {user_id}")

    @property
    def species(self) -> Species:
        """The categories of species that this home goes by."""
        return species_listed() if self._species is None else self._species

    def unsealed_totp(self, user: User) -> str | None:
        """Return the TOTP secret of a user, to seal it for somebody else."""
        return None if user.totp_sealed is None else self._unsealed(user.id, user.totp_sealed)

    # --- inside

    def _only_cloud(self) -> None:
        if self.home == "station":
            raise Forbidden(AT_STATION)
        if self._messenger is None:
            raise Forbidden("this cloud is not set up to send codes by SMS or mail: an administrator adds accounts")

    def _kept_here(self, user: User) -> None:
        if user.origin == "cloud":
            raise Conflict(AT_THE_CLOUD)

    def _may_grant(self, actor: Principal, role: Role, stations: tuple[str, ...]) -> None:
        if role not in granted_by(actor.role):
            raise Forbidden(f"role: you may not make somebody {role}")
        if actor.stations is not None and not set(stations) <= set(actor.stations):
            raise Forbidden("stations: you may grant your own stations only")

    async def _limit(self, what: str, account: str, address: str) -> None:
        """Count an attempt on an account and from an address; raises RateLimited and counts nothing."""
        now = self.moments()
        of_account, of_address = f"{what} account {account}", f"{what} address {address}"

        def job() -> Job[float]:
            wait_s = limits.wait_s((yield from logins.attempts(of_account)), now)
            of_all = limits.wait_s((yield from logins.attempts(of_address)), now)
            if not (wait_s or of_all):
                yield from logins.count_attempt(of_account, now, limits.MEMORY_S)
                yield from logins.count_attempt(of_address, now, limits.MEMORY_S)
            return max(wait_s, of_all)

        wait_s = await self.tables.write(job())
        if wait_s:
            raise RateLimited(say("refused.too_many"), retry_after_s=wait_s)

    async def _tried(self, email: str, purpose: logins.Purpose, address: str, *, otp_id: str | None) -> Challenge:
        """Return the open challenge of an account, with one more try counted; raises NotAuthenticated.

        One that followed a password is bound to who gave it: by its id, or by the address that it came from.
        """
        await self._limit("verify", email, address)
        now = self.moments()

        def job() -> Job[Challenge | None]:
            challenge = yield from logins.newest(email, purpose)
            if challenge is None or not challenge.is_open(now):
                return None
            if (otp_id is not None and otp_id != challenge.id) or (
                otp_id is None and challenge.kind == "totp" and challenge.address != address
            ):
                return None
            yield from logins.count_try(challenge.id)
            return challenge

        challenge = await self.tables.write(job())
        if challenge is None:
            raise NotAuthenticated(CODE_NOT_RIGHT)
        return challenge

    async def _spent(self, user: User, challenge: Challenge, shown: Shown) -> Callable[[User], Job[User]]:
        if challenge.kind == "totp":
            return await self._shown(user, shown, is_strict=bool(challenge.body.get("is_strict")))
        if not logins.is_sent_code(challenge, factors.otp_hash(challenge.id, shown.code.strip(), self._pepper)):
            raise NotAuthenticated(CODE_NOT_RIGHT)

        def nothing(current: User) -> Job[User]:
            # a code that was sent is spent with its challenge
            still = yield from logins.newest(challenge.email, challenge.purpose)
            if still is None or still.id != challenge.id:
                raise NotAuthenticated(CODE_NOT_RIGHT)
            yield from logins.close(challenge.id)
            return current

        return nothing

    async def _shown(self, user: User, shown: Shown, *, is_strict: bool) -> Callable[[User], Job[User]]:
        """Check what was shown and return the job that spends it; raises NotAuthenticated."""
        now = self.moments()
        if shown.recovery_code:
            hashed = factors.recovery_hash(shown.recovery_code)

            def without(current: User) -> Job[User]:
                if hashed not in current.recovery:
                    raise NotAuthenticated(CODE_NOT_RIGHT)
                left = tuple(each for each in current.recovery if each != hashed)
                spent = (yield from fact(f"spent {current.id}")) or ""
                yield from _remember_spent(current.id, spent, hashed)
                return (yield from users.change(current, now.ms, {"recovery": left}))

            return without
        if is_strict:
            raise NotAuthenticated(
                "the roster of this station is older than 90 days: administrators and managers log in with a recovery"
                " code until the cloud was reached"
            )
        if user.totp_sealed is None:
            raise NotAuthenticated(CODE_NOT_RIGHT)
        seed = self._unsealed(user.id, user.totp_sealed)
        code, next_code = shown.code.strip(), shown.next_code.strip()
        if next_code:
            step = await self._off_loop(lambda: factors.matched_pair(seed, code, next_code, now.ms, user.totp_step))
        else:
            step = factors.matched_step(seed, code, now.ms, user.totp_step)
        if step is None:
            raise NotAuthenticated(CODE_NOT_RIGHT)
        found = step

        def later(current: User) -> Job[User]:
            if found <= current.totp_step:
                raise NotAuthenticated(CODE_NOT_RIGHT)
            return (yield from users.change(current, now.ms, {"totp_step": found}))

        return later

    async def _send(
        self,
        email: str,
        purpose: logins.Purpose,
        kind: logins.Kind,
        address: str,
        body: dict[str, Any],
        user: User | None,
    ) -> Opened:
        """Open a challenge and send its code, if it has one; how long that takes tells nobody anything."""
        challenge = logins.new_challenge(email, purpose, kind, self.moments(), address)
        code = factors.new_otp()
        hashed = factors.otp_hash(challenge.id, code, self._pepper) if kind == "otp" else None
        phone = self._begun_phone(email, body) if user is None else user.phone
        channel = None if self._messenger is None else self._messenger.channel(phone)
        kept = msgspec.structs.replace(challenge, code_hash=hashed, body={**body, "channel": channel})
        if kind != "none":  # what leads nowhere must not void what somebody else has begun
            await self.tables.write(logins.open_challenge(kept))
        if kind == "otp" and self._messenger is not None and channel is not None:
            to = email if channel == "mail" else str(phone)
            task = asyncio.create_task(self._deliver(self._messenger, channel, to, code))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return Opened(challenge.id, "otp")

    def _begun_phone(self, email: str, body: dict[str, Any]) -> str | None:
        """Return the telephone number that a registration brought."""
        kept = body.get("phone")
        return None if kept is None else self.fields.opened(f"challenges.phone/{email}", kept)

    async def _deliver(self, messenger: Messenger, channel: Channel, to: str, code: str) -> None:
        try:
            await messenger.send_code(channel, to, code, logins.OTP_S // 60)
        except OutpostError as error:
            log.warning("accounts.code_not_sent", code=error.code, detail=error.detail)

    async def _rehash(self, user: User, password: str) -> None:
        """Bring a hash to today's cost, unless the cloud is the one that keeps it."""
        if user.origin == "cloud" or user.password_hash is None or not self.hasher.needs_rehash(user.password_hash):
            return
        hashed, now = await self._hashed(password), self.moments()

        def job() -> Job[None]:
            current = yield from users.get(user.id)
            if current.password_hash == user.password_hash:
                yield from users.change(current, now.ms, {"password_hash": hashed})

        await self.tables.write(job())

    async def _hashed(self, password: str) -> str:
        return await self._off_loop(lambda: self.hasher.hash(password))

    async def _off_loop(self, work: Callable[[], T]) -> T:
        async with self._hashing:
            return await asyncio.to_thread(work)


def _remember_spent(user_id: str, spent: str, hashed: str) -> Job[None]:
    """Remember a recovery code that was used here: a roster that still names it must not bring it back."""
    yield from set_fact(f"spent {user_id}", f"{spent} {hashed}".strip())
