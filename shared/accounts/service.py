"""Accounts as both homes have them: who asks, who is let in, and what people and administrators change.

Everything that is kept lies behind ``Tables``; what is checked first is ``shared.accounts.checks``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from shared.accounts import audit, factors, keys, logins, rotation, sessions, users
from shared.accounts.checks import (
    CODE_NOT_RIGHT,
    NOT_RIGHT,
    ROSTER_TAKEN,
    Channel,
    Messenger,
    Opened,
    Shown,
    Tables,
)
from shared.accounts.devices import Devices, Phone
from shared.accounts.facts import fact
from shared.accounts.moments import Moment, is_within
from shared.accounts.passwords import check_new
from shared.accounts.roles import check_scopes
from shared.accounts.roster import STRICT_MS
from shared.accounts.rotation import KeyStatus
from shared.accounts.tokens import Claims
from shared.accounts.users import Job, User
from shared.errors import Conflict, FactorRequired, Forbidden, Invalid, NotAuthenticated
from shared.privacy import OPERATOR, Principal, Role, View, view_for
from shared.sayings import say

__all__ = ["ROSTER_TAKEN", "Accounts", "Caller", "Channel", "LoggedIn", "Messenger", "Opened", "Shown", "Tables"]

log = structlog.get_logger(__name__)

_DAY_MS = 86_400_000


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes a request, and by what: a session, an API key with scopes, or a token made on the machine."""

    principal: Principal
    session_id: str = ""
    factor: Moment | None = None
    scopes: frozenset[str] | None = None


class LoggedIn(msgspec.Struct, frozen=True):
    """Somebody who may enter now."""

    user: User
    access: str
    refresh: str


class Accounts(Devices):
    """The accounts of one home."""

    # --- who asks

    async def caller(self, token: str) -> Caller:
        """Return who a token or an API key is of; raises NotAuthenticated."""
        now = self.moments()
        if token.startswith(keys.PREFIX):
            key = await self.tables.read(keys.checked(token, now))
            principal = self._principal(f"key:{key.id}", key.role, key.stations)
            return Caller(principal=principal, scopes=frozenset(key.scopes))
        return await self.tables.read(self._entered(self.signer.read(token, now), now))

    def _entered(self, claims: Claims, now: Moment) -> Job[Caller]:
        user_id, session_id, made = claims.user_id, claims.session_id, claims.made
        self.signer.current = yield from rotation.check_token_key(claims.key, now)
        if not session_id and user_id == OPERATOR.user_id:
            return Caller(principal=OPERATOR, factor=made)
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

    async def principal(self, user_id: str) -> Principal:
        """Return with which rights somebody would ask now; raises NotFound, or Forbidden for who is shut out."""
        if user_id == OPERATOR.user_id:
            return OPERATOR
        user = await self.tables.read(users.get(user_id))
        if not user.may_enter:
            raise Forbidden("whoever asked for this may not enter any more")
        return self._principal(user.id, user.role, user.stations)

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
        number = users.plain_phone(phone)
        kept = None if number is None else self.fields.sealed(f"challenges.phone/{plain}", number)
        body: dict[str, Any] = {"name": name, "phone": kept, "wish": wish}
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
            raise NotAuthenticated(say("refused.password"))
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
            raise Forbidden(say("refused.no_factor"))
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
                    email=plain, name=body["name"], role="viewer", now_ms=now.ms, phone=self._begun_phone(plain, body),
                    password_hash=body.get("password_hash"), is_email_verified=body.get("channel") == "mail",
                    is_phone_verified=body.get("channel") == "sms", last_login_ms=now.ms,
                )  # fmt: skip
                user = yield from users.insert(made)
                wish = f"wished to be {body['wish']}" if body.get("wish") else ""
                yield from audit.write([audit.Entry(now.ms, user.id, "user.register", wish)])
            elif not user.may_enter:
                raise NotAuthenticated(sessions.LOG_IN_AGAIN)
            return user, (yield from sessions.begin(user, now, device_id=device_id, factor=now))

        return await self._logged_in(*await self.tables.write(job()))

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

        return await self._logged_in(*await self.tables.write(job()))

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
        return await self._logged_in(*found)

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

    # --- the home's own keys

    async def use_keys(self) -> None:
        """Seal and sign with the keys that are in use; another process may have changed them."""

        def job() -> Job[tuple[str, str]]:
            return (yield from rotation.fields_in_use()).current, (yield from rotation.tokens_in_use()).current

        self.fields.current, self.signer.current = await self.tables.read(job())

    async def key_status(self) -> KeyStatus:
        """Return which keys are in use and how much still needs former ones."""
        return await self.tables.read(rotation.status(self.moments(), self.home))

    async def rotate_field_key(self, actor: Principal) -> str:
        """Seal with a new key from now on; return its name."""
        self.fields.current = await self.tables.write(rotation.rotate_fields(self.moments(), actor.user_id))
        return self.fields.current

    async def rotate_token_key(self, actor: Principal, *, is_at_once: bool = False) -> str:
        """Sign with a new key from now on; return its name. ``is_at_once`` ends every token that there is."""
        self.signer.current = await self.tables.write(
            rotation.rotate_tokens(self.moments(), actor.user_id, is_at_once=is_at_once)
        )
        return self.signer.current

    async def reseal(self, actor: Principal, progress: Callable[[int], None] = lambda _: None) -> int:
        """Bring every personal field under the key in use, a few in each transaction; return how many were not."""
        done, turn = 0, rotation.TURN
        while turn == rotation.TURN:
            turn = await self.tables.write(
                rotation.reseal(self.fields, self._before, self.moments(), actor.user_id, self.home)
            )
            done += turn
            progress(done)
        return done

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

    async def prune_audit(self, days: int) -> int:
        """Take lines older than ``days`` off the audit log; return how many. Raises Conflict where it is broken."""
        now = self.moments()
        return await self.tables.write(audit.prune(now.ms - days * _DAY_MS, now, OPERATOR.user_id))

    # --- inside

    # --- phones

    async def enrol_phone(
        self, code: str, public_key: str, signature: str, name: str, address: str
    ) -> tuple[Phone, LoggedIn]:
        """Make a phone known by a one-time code and log its person in; raises NotAuthenticated."""
        phone, user, tokens = await self._enrol_phone(code, public_key, signature, name, address)
        return phone, await self._logged_in(user, tokens)

    async def login_phone(self, phone_id: str, counter: int, signature: str, address: str) -> LoggedIn:
        """Log the person of a phone in by its key; raises NotAuthenticated, Forbidden or Conflict."""
        return await self._logged_in(*await self._login_phone(phone_id, counter, signature, address))

    async def _logged_in(self, user: User, tokens: sessions.Tokens) -> LoggedIn:
        self.signer.current = (await self.tables.read(rotation.tokens_in_use())).current
        return LoggedIn(user, self.signer.access_token(user.id, tokens.session_id, self.moments()), tokens.refresh)
