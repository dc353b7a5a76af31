"""Accounts as both homes have them: checks who somebody is, off the event loop where it takes long.

Everything that is kept lies behind ``Tables``; a check that fails is counted in a transaction of its own before it is
looked at, so no refusal takes its own count back. At most two passwords are hashed at once: each takes 19 MiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec
import structlog

from shared.accounts import audit, factors, keys, limits, logins, sealing, sessions, users
from shared.accounts.facts import fact, set_fact
from shared.accounts.logins import Challenge
from shared.accounts.moments import Moment, is_within
from shared.accounts.passwords import Hasher, check_new
from shared.accounts.roles import Home, check_scopes, granted_by
from shared.accounts.roster import STRICT_MS
from shared.accounts.tokens import Signer
from shared.accounts.users import Job, User
from shared.errors import (
    Conflict,
    FactorRequired,
    Forbidden,
    Invalid,
    NotAuthenticated,
    OutpostError,
    RateLimited,
)
from shared.privacy import OPERATOR, Principal, Role, Species, View, view_for

T = TypeVar("T")
log = structlog.get_logger(__name__)

HASHING_AT_ONCE: Final = 2
NOT_RIGHT: Final = "the address or the password is not right"
CODE_NOT_RIGHT: Final = (
    "the code is not right, was used before, or has expired; where this home's clock is wrong, wait for the app's next"
    " code and give both: otp_code and otp_code_next"
)
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


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes a request, and by what: a session, an API key with scopes, or a token made on the machine."""

    principal: Principal
    session_id: str = ""
    factor: Moment | None = None
    scopes: frozenset[str] | None = None


class Opened(msgspec.Struct, frozen=True):
    """A challenge as it is answered; ``factor`` says what kind of code is waited for."""

    otp_id: str
    factor: str


class LoggedIn(msgspec.Struct, frozen=True):
    """Somebody who may enter now."""

    user: User
    access: str
    refresh: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What a person shows as second factor; empty where not."""

    code: str = ""
    next_code: str = ""
    recovery_code: str = ""


class Accounts:
    """The accounts of one home over its ``tables``; ``secret`` is the home's, 32 bytes that nobody else has."""

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
        self._seal_key = sealing.derived(secret, "seeds")
        self._pepper = sealing.derived(secret, "codes")
        self._veil = sealing.IdVeil(sealing.derived(secret, "ids"))
        self._hashing = asyncio.Semaphore(HASHING_AT_ONCE)
        self._sending: set[asyncio.Task[None]] = set()

    # --- who asks

    async def caller(self, token: str) -> Caller:
        """Return who a token or an API key is of; raises NotAuthenticated."""
        now = self.moments()
        if token.startswith(keys.PREFIX):
            key = await self.tables.read(keys.checked(token, now))
            principal = self._principal(f"key:{key.id}", key.role, key.stations)
            return Caller(principal=principal, scopes=frozenset(key.scopes))
        claims = self.signer.read(token, now)
        if not claims.session_id and claims.user_id == OPERATOR.user_id:
            return Caller(principal=OPERATOR, factor=claims.made)
        return await self.tables.read(self._entered(claims.user_id, claims.session_id, claims.made))

    def _entered(self, user_id: str, session_id: str, made: Moment) -> Job[Caller]:
        user = yield from users.find(user_id)
        if user is None or not user.may_enter:
            raise NotAuthenticated(sessions.LOG_IN_AGAIN)
        factor: Moment | None = made
        if session_id:
            session = yield from sessions.find(session_id)
            if session is None or session.revoked_ms is not None or session.user_id != user_id:
                raise NotAuthenticated(sessions.LOG_IN_AGAIN)
            factor = session.factor
        return Caller(
            principal=self._principal(user.id, user.role, user.stations), session_id=session_id, factor=factor
        )

    def _principal(self, user_id: str, role: Role, stations: tuple[str, ...]) -> Principal:
        """Return who a user is here: at a station all of it is in scope, in the cloud what was granted."""
        if self.home == "station" or users.ALL_STATIONS in stations:
            return Principal(user_id=user_id, role=role)
        # an administrator of some stations administers there, and in the cloud manages what is theirs
        return Principal(user_id=user_id, role="conservation_manager" if role == "admin" else role, stations=stations)

    def view(self, principal: Principal) -> View:
        """Return what ``principal`` may see now."""
        return view_for(principal, now_ms=self._now_ms(), species=self._species, veil=self._veil)

    def require_factor(self, caller: Caller) -> None:
        """Raise FactorRequired unless the caller has shown a second factor in the last five minutes."""
        if caller.factor is None or not is_within(caller.factor, self.moments(), logins.FRESH_S):
            raise FactorRequired("this needs a second factor of the last five minutes: POST it to auth/factor/ first")

    def machine_token(self, user_id: str = OPERATOR.user_id) -> str:
        """Return an access token without a session, for an operator who holds the home's key anyway."""
        return self.signer.access_token(user_id, "", self.moments())

    # --- registration and login

    async def register(
        self, *, email: str, name: str, phone: str | None, password: str | None, wish: str | None, address: str
    ) -> Opened:
        """Begin a registration: a code is sent, and the account is made when it comes back."""
        self._only_cloud()
        plain = users.plain_email(email)
        await self._limit("register", plain, address)
        body: dict[str, Any] = {"name": name, "phone": users.plain_phone(phone), "wish": wish}
        if password is not None:
            check_new("password", password, plain, name)
            body["password_hash"] = await self._hashed(password)
        known = await self.tables.read(users.find_by_email(plain))
        kind: logins.Kind = "none" if known is not None and known.password_hash is not None else "otp"
        return await self._send(plain, "registration", kind, address, body, known)

    async def login(self, *, email: str, password: str | None, address: str) -> Opened:
        """Begin a login. Unknown and known addresses, with and without a password, are answered alike."""
        plain = users.plain_email(email)
        await self._limit("login", plain, address)
        user = await self.tables.read(users.find_by_email(plain))
        if password is not None:
            kept = None if user is None else user.password_hash
            is_right = await self._off_loop(lambda: self.hasher.is_right(kept, password))
            if not is_right or user is None or not user.may_enter:
                raise NotAuthenticated(NOT_RIGHT)
            await self._rehash(user, password)
            return await self._after_password(user, address)
        if self.home == "station":
            raise NotAuthenticated("password: is required at a station, with the code of your app")
        is_by_code = user is not None and user.may_enter and user.password_hash is None
        return await self._send(plain, "login", "otp" if is_by_code else "none", address, {}, user)

    async def _after_password(self, user: User, address: str) -> Opened:
        if user.totp_sealed is not None:
            is_strict = await self.tables.read(self._is_strict(user))
            challenge = logins.new_challenge(user.email, "login", "totp", self.moments(), address)
            challenge.body["is_strict"] = is_strict
            await self.tables.write(logins.open_challenge(challenge))
            return Opened(challenge.id, "recovery_code" if is_strict else "totp")
        if self.home == "station" or self._messenger is None:
            raise Forbidden("this account has no second factor: an administrator makes it one")
        return await self._send(user.email, "login", "otp", address, {}, user)

    def _is_strict(self, user: User) -> Job[bool]:
        """Say whether the roster is so old that this user needs a recovery code; a ranger never does."""
        now = self.moments()
        taken = yield from fact(ROSTER_TAKEN)
        if taken is None or user.role not in ("admin", "conservation_manager") or user.origin != "cloud":
            return False
        return now.is_sure and now.ms - int(taken) > STRICT_MS

    async def send_otp(self, *, email: str, purpose: str, address: str) -> Opened:
        """Send another code: for a registration that was begun, a login by code, or a fresh factor."""
        self._only_cloud()
        plain = users.plain_email(email)
        if purpose == "registration":
            await self._limit("register", plain, address)
            begun = await self.tables.read(logins.newest(plain, "registration"))
            known = await self.tables.read(users.find_by_email(plain))
            kind: logins.Kind = "none" if begun is None else begun.kind
            body = {} if begun is None else begun.body
            return await self._send(plain, "registration", kind, address, body, known)
        if purpose == "factor":
            await self._limit("login", plain, address)
            user = await self.tables.read(users.find_by_email(plain))
            has_code = user is not None and user.may_enter and user.totp_sealed is None
            return await self._send(plain, "factor", "otp" if has_code else "none", address, {}, user)
        if purpose != "login":
            raise Invalid("purpose: must be one of registration, login, factor")
        return await self.login(email=plain, password=None, address=address)

    async def verify_registration(self, *, email: str, code: str, device_id: str | None, address: str) -> LoggedIn:
        """Make the account that a registration asked for, once its code comes back; everybody begins as a viewer."""
        self._only_cloud()
        plain = users.plain_email(email)
        challenge = await self._tried(plain, "registration", address, otp_id=None)
        if not logins.is_sent_code(challenge, factors.otp_hash(challenge.id, code.strip(), self._pepper)):
            raise NotAuthenticated(CODE_NOT_RIGHT)
        now = self.moments()

        def job() -> Job[tuple[User, sessions.Tokens]]:
            yield from logins.close(challenge.id)
            user = yield from users.find_by_email(plain)
            if user is None:
                body = challenge.body
                made = users.new_user(
                    email=plain, name=body["name"], role="viewer", now_ms=now.ms, phone=body.get("phone"),
                    password_hash=body.get("password_hash"), is_email_verified=body.get("channel") == "mail",
                    is_phone_verified=body.get("channel") == "sms", last_login_ms=now.ms,
                )  # fmt: skip
                user = yield from users.insert(made)
                wish = f"wished to be {body['wish']}" if body.get("wish") else ""
                yield from audit.write([audit.Entry(now.ms, user.id, "user.register", wish)])
            elif not user.may_enter:
                raise NotAuthenticated(sessions.LOG_IN_AGAIN)
            return user, (yield from sessions.begin(user, now, device_id=device_id, factor=now))

        return self._logged_in(*await self.tables.write(job()))

    async def verify_login(
        self, *, email: str, shown: Shown, otp_id: str | None, device_id: str | None, address: str
    ) -> LoggedIn:
        """Let somebody in whose challenge is answered; raises NotAuthenticated."""
        plain = users.plain_email(email)
        challenge = await self._tried(plain, "login", address, otp_id=otp_id)
        user = await self.tables.read(users.find_by_email(plain))
        if user is None or not user.may_enter:
            raise NotAuthenticated(CODE_NOT_RIGHT)
        now = self.moments()
        spend = await self._spent(user, challenge, shown)

        def job() -> Job[tuple[User, sessions.Tokens]]:
            current = yield from users.get(user.id)
            if not current.may_enter or current.password_hash != user.password_hash:
                raise NotAuthenticated(sessions.LOG_IN_AGAIN)
            current = yield from spend(current)
            yield from logins.close(challenge.id)
            for step in ("login", "verify"):
                yield from logins.forgive(f"{step} account {plain}")
                yield from logins.take_back(f"{step} address {address}")
            current = yield from users.change(current, now.ms, {"last_login_ms": now.ms})
            yield from audit.write([audit.Entry(now.ms, current.id, "login", challenge.kind)])
            return current, (yield from sessions.begin(current, now, device_id=device_id, factor=now))

        return self._logged_in(*await self.tables.write(job()))

    async def show_factor(self, caller: Caller, shown: Shown, address: str) -> None:
        """Note that the person of a session has just shown a second factor; raises NotAuthenticated."""
        user = await self._of(caller)
        now = self.moments()
        if user.totp_sealed is not None:
            await self._limit("verify", user.email, address)
            spend = await self._shown(user, shown, is_strict=False)
        else:
            challenge = await self._tried(user.email, "factor", address, otp_id=None)
            spend = await self._spent(user, challenge, shown)

        def job() -> Job[None]:
            yield from spend((yield from users.get(user.id)))
            yield from logins.forgive(f"verify account {user.email}")
            yield from sessions.set_factor(caller.session_id, now)

        await self.tables.write(job())

    async def refresh(self, token: str) -> LoggedIn:
        """Give the next tokens for a refresh token; one that was used before ends its session."""
        now = self.moments()
        found = await self.tables.write(sessions.rotate(token, now))
        if found is None:
            log.warning("accounts.refresh_reused")
            raise NotAuthenticated("this refresh token was used before: its session has been ended, log in again")
        return self._logged_in(*found)

    async def logout(self, caller: Caller, device_id: str | None) -> None:
        """End the session of the caller, or those of one of the caller's devices."""
        now = self.moments()
        if device_id is not None:
            await self.tables.write(sessions.revoke_all(caller.principal.user_id, now.ms, device_id=device_id))
        if caller.session_id:
            await self.tables.write(sessions.revoke(caller.session_id, now.ms))

    # --- a person's own account

    async def _of(self, caller: Caller) -> User:
        if not caller.session_id:
            raise Forbidden("this is for people who have logged in")
        return await self.tables.read(users.get(caller.principal.user_id))

    async def me(self, caller: Caller) -> User:
        """Return the caller's own account."""
        return await self._of(caller)

    async def change_me(self, caller: Caller, columns: dict[str, Any]) -> User:
        """Change name, telephone and organisation of the caller."""
        user = await self._of(caller)
        self._kept_here(user)
        if "phone" in columns and columns["phone"] != user.phone:
            columns["is_phone_verified"] = False
        now = self.moments()

        def job() -> Job[User]:
            return (yield from users.change((yield from users.get(user.id)), now.ms, columns))

        return await self.tables.write(job())

    async def change_password(self, caller: Caller, current: str | None, new: str, again: str, address: str) -> None:
        """Set another password, and end the caller's other sessions; raises Invalid or NotAuthenticated."""
        user = await self._of(caller)
        self._kept_here(user)
        if new != again:
            raise Invalid("new_password_confirm: must be the same as new_password")
        check_new("new_password", new, user.email, user.name)
        if user.password_hash is None:
            self.require_factor(caller)
        else:
            await self._limit("verify", user.email, address)
            given = current or ""
            if not await self._off_loop(lambda: self.hasher.is_right(user.password_hash, given)):
                raise Invalid("current_password: is not right")
        hashed, now = await self._hashed(new), self.moments()

        def job() -> Job[None]:
            yield from users.change((yield from users.get(user.id)), now.ms, {"password_hash": hashed})
            yield from sessions.revoke_all(user.id, now.ms, but=caller.session_id)
            yield from audit.write([audit.Entry(now.ms, user.id, "user.password")])

        await self.tables.write(job())

    async def begin_totp(self, caller: Caller) -> tuple[str, str]:
        """Return a new secret and its address for an app; it counts once its first code was shown.

        The first one is set up as somebody is logged in; another one asks for the former first.
        """
        user = await self._of(caller)
        self._kept_here(user)
        self.require_factor(caller)
        seed, now = factors.new_seed(), self.moments()
        pending = self.sealed(user.id, seed)

        def job() -> Job[None]:
            yield from users.change((yield from users.get(user.id)), now.ms, {"totp_pending": pending})

        await self.tables.write(job())
        return seed, factors.enrolment_uri(seed, user.email, self.name)

    async def confirm_totp(self, caller: Caller, code: str, address: str) -> list[str]:
        """Put the new secret in force by its first code, and return recovery codes to write down."""
        user = await self._of(caller)
        self._kept_here(user)
        await self._limit("verify", user.email, address)
        if user.totp_pending is None:
            raise Conflict("there is no new secret to confirm: ask for one first")
        now = self.moments()
        step = factors.matched_step(self._unsealed(user.id, user.totp_pending), code, now.ms, 0)
        if step is None:
            raise NotAuthenticated(CODE_NOT_RIGHT)
        codes = factors.new_recovery_codes()

        def job() -> Job[None]:
            columns = {
                "totp_sealed": user.totp_pending, "totp_pending": None, "totp_step": step,
                "recovery": tuple(factors.recovery_hash(code) for code in codes),
            }  # fmt: skip
            yield from users.change((yield from users.get(user.id)), now.ms, columns)
            yield from sessions.set_factor(caller.session_id, now)
            yield from audit.write([audit.Entry(now.ms, user.id, "user.totp")])

        await self.tables.write(job())
        return codes

    # --- other people's accounts

    async def add_user(
        self,
        actor: Principal,
        *,
        email: str,
        name: str,
        role: Role,
        password: str | None,
        stations: tuple[str, ...] = (),
        phone: str | None = None,
        organization: str | None = None,
        has_totp: bool = True,
    ) -> tuple[User, str | None, list[str]]:
        """Make an account; return it with its TOTP secret and recovery codes, which are shown once."""
        self._may_grant(actor, role, stations)
        if password is not None:
            check_new("password", password, email, name)
        elif self.home == "station":
            raise Invalid("password: is required at a station")
        hashed = None if password is None else await self._hashed(password)
        now = self.moments()
        made = users.new_user(
            email=email, name=name, role=role, now_ms=now.ms, phone=users.plain_phone(phone),
            organization=organization, stations=stations, password_hash=hashed,
        )  # fmt: skip
        seed: str | None = None
        codes: list[str] = []
        if has_totp and password is not None:
            seed, codes = factors.new_seed(), factors.new_recovery_codes()
            made = msgspec.structs.replace(
                made, totp_sealed=self.sealed(made.id, seed), recovery=tuple(map(factors.recovery_hash, codes))
            )

        def job() -> Job[User]:
            user = yield from users.insert(made)
            yield from audit.write([audit.Entry(now.ms, actor.user_id, "user.add", f"{user.id} {role}")])
            return user

        return await self.tables.write(job()), seed, codes

    async def change_user(self, actor: Principal, user_id: str, columns: dict[str, Any]) -> User:
        """Change role, stations or standing of an account; its sessions end where it lost something."""
        now = self.moments()

        def job() -> Job[User]:
            user = yield from users.get(user_id)
            self._kept_here(user)
            if "role" in columns or "stations" in columns:
                role, stations = columns.get("role", user.role), columns.get("stations", user.stations)
                self._may_grant(actor, role, stations)
            if columns.get("role", "admin") != "admin" or not columns.get("is_active", True):
                yield from users.keep_an_admin(user)
            changed = yield from users.change(user, now.ms, columns)
            if not changed.is_active:
                yield from sessions.revoke_all(user.id, now.ms)
            words = " ".join(f"{name}={columns[name]}" for name in sorted(columns) if name in ("role", "is_active"))
            yield from audit.write([audit.Entry(now.ms, actor.user_id, "user.change", f"{user.id} {words}")])
            return changed

        return await self.tables.write(job())

    async def revoke(self, actor: Principal, user_id: str, *, is_revoked: bool = True) -> User:
        """Shut somebody out at once, here and whatever a roster says, or let them in again."""
        now = self.moments()

        def job() -> Job[User]:
            user = yield from users.get(user_id)
            if is_revoked:
                yield from users.keep_an_admin(user)
                yield from sessions.revoke_all(user.id, now.ms)
            changed = yield from users.change(user, now.ms, {"revoked_ms": now.ms if is_revoked else None})
            act = "user.revoke" if is_revoked else "user.restore"
            yield from audit.write([audit.Entry(now.ms, actor.user_id, act, user.id)])
            return changed

        return await self.tables.write(job())

    async def user(self, user_id: str) -> User:
        """Return an account by id or address; raises NotFound."""
        return await self.tables.read(users.named(user_id))

    async def users(self, search: str | None = None) -> list[User]:
        """Return the accounts, by address."""
        return await self.tables.read(users.listed(search))

    # --- API keys

    async def make_key(
        self, actor: Principal, *, name: str, role: Role, scopes: list[str], stations: tuple[str, ...]
    ) -> tuple[keys.ApiKey, str]:
        """Make an API key; its text is returned once."""
        if unknown := check_scopes(scopes):
            raise Invalid(f"scopes: there is no {', '.join(unknown)}")
        if not scopes:
            raise Invalid("scopes: name at least one")
        self._may_grant(actor, role, stations)
        now = self.moments()

        def job() -> Job[tuple[keys.ApiKey, str]]:
            made = yield from keys.make(name, role, scopes, stations, actor.user_id, now)
            yield from audit.write([audit.Entry(now.ms, actor.user_id, "key.make", f"{made[0].id} {' '.join(scopes)}")])
            return made

        return await self.tables.write(job())

    async def rotate_key(self, actor: Principal, key_id: str) -> tuple[keys.ApiKey, str]:
        """Give a key another secret; the former is good for seven days more."""
        now = self.moments()

        def job() -> Job[tuple[keys.ApiKey, str]]:
            made = yield from keys.rotate(key_id, now)
            yield from audit.write([audit.Entry(now.ms, actor.user_id, "key.rotate", key_id)])
            return made

        return await self.tables.write(job())

    async def revoke_key(self, actor: Principal, key_id: str) -> None:
        """Take a key away."""
        now = self.moments()

        def job() -> Job[None]:
            yield from keys.revoke(key_id, now.ms)
            yield from audit.write([audit.Entry(now.ms, actor.user_id, "key.revoke", key_id)])

        await self.tables.write(job())

    async def keys(self) -> list[keys.ApiKey]:
        """Return every API key without its secret."""
        return await self.tables.read(keys.listed())

    # --- housekeeping

    async def note(self, entries: list[audit.Entry]) -> None:
        """Add lines to the audit log."""
        if entries:
            await self.tables.write(audit.write(entries))

    async def audit_page(self, offset: int, limit: int) -> tuple[int, list[audit.Line], int | None]:
        """Return the audit log's length, some of its lines, newest first, and where its chain is broken."""

        def job() -> Job[tuple[int, list[audit.Line], int | None]]:
            count, lines = yield from audit.page(offset, limit)
            return count, lines, (yield from audit.broken_at())

        return await self.tables.read(job())

    async def sweep(self) -> int:
        """Forget codes, attempts and sessions that are of no use any more; nothing on an unsure clock but what is
        known to be old. Return how many."""
        now = self.moments()

        def job() -> Job[int]:
            return (yield from logins.sweep(now)) + (yield from sessions.sweep(now))

        return await self.tables.write(job())

    async def drain(self) -> None:
        """Wait until the codes that are being sent are sent, or have failed."""
        while self._sending:
            await asyncio.wait(self._sending)

    def sealed(self, user_id: str, seed: str) -> str:
        """Return a TOTP secret as it is kept."""
        return sealing.seal(self._seal_key, seed, f"totp {user_id}")

    def _unsealed(self, user_id: str, kept: str) -> str:
        return sealing.unseal(self._seal_key, kept, f"totp {user_id}")

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

    def _logged_in(self, user: User, tokens: sessions.Tokens) -> LoggedIn:
        return LoggedIn(user, self.signer.access_token(user.id, tokens.session_id, self.moments()), tokens.refresh)

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
            raise RateLimited("too many attempts: wait a little", retry_after_s=wait_s)

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
        phone = body.get("phone") if user is None else user.phone
        channel = None if self._messenger is None else self._messenger.channel(phone)
        kept = msgspec.structs.replace(challenge, code_hash=hashed, body={**body, "channel": channel})
        await self.tables.write(logins.open_challenge(kept))
        if kind == "otp" and self._messenger is not None and channel is not None:
            to = email if channel == "mail" else str(phone)
            task = asyncio.create_task(self._deliver(self._messenger, channel, to, code))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return Opened(challenge.id, "otp")

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
