"""Accounts in public form: the bodies of ``/api/v1/auth/``, as in the original platform, and of users and keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.accounts import factors
from shared.accounts.audit import Line
from shared.accounts.keys import ApiKey
from shared.accounts.logins import OTP_S
from shared.accounts.service import LoggedIn, Opened, Shown
from shared.accounts.users import User, plain_phone
from shared.privacy import Role
from shared.sync.records import from_ms
from shared.wire.reading import optional_text, text

Email = Annotated[str, Meta(max_length=254, description="The address that names the account.")]
PersonName = Annotated[str, Meta(min_length=1, max_length=200)]
Phone = Annotated[str, Meta(max_length=30)]
Password = Annotated[str, Meta(max_length=256, description="8 to 256 characters, and none that everybody uses.")]
Code = Annotated[str, Meta(max_length=10, description="Six digits: as sent, or of the authenticator app.")]
NextCode = Annotated[str, Meta(max_length=10, description="The app's next code, where this home's clock may be wrong.")]
RecoveryCode = Annotated[str, Meta(max_length=40, description="A code from paper, in place of the app's.")]
DeviceId = Annotated[str, Meta(max_length=200)]
StationIds = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=1_000)]


class RegisterIn(Struct, kw_only=True):
    """Who wants an account. ``role`` is a wish: everybody starts as viewer. Without a password one logs in by code."""

    email: Email
    name: PersonName
    phone: Phone | None = None
    password: Password | None = None
    role: Annotated[str, Meta(max_length=50)] | None = None
    purpose: Annotated[str, Meta(max_length=50)] | None = None


class VerifyOtpIn(Struct, kw_only=True):
    """The code of a registration, or of a login."""

    email: Email
    otp_code: Code
    purpose: Annotated[str, Meta(max_length=50)] = "registration"
    otp_id: Annotated[str, Meta(max_length=64)] | None = None
    name: PersonName | None = None
    phone: Phone | None = None
    role: Annotated[str, Meta(max_length=50)] | None = None
    device_id: DeviceId | None = None
    device_info: Any = None


class LoginIn(Struct, kw_only=True):
    """Who wants in; the password where the account has one."""

    email: Email
    password: Password | None = None


class FactorIn(Struct, kw_only=True):
    """A second factor: a code of the app (two in a row where the clock may be wrong), or one from paper."""

    otp_code: Code = ""
    otp_code_next: NextCode = ""
    recovery_code: RecoveryCode = ""

    def shown(self) -> Shown:
        """Return what is shown."""
        return Shown(code=self.otp_code, next_code=self.otp_code_next, recovery_code=self.recovery_code)


class LoginVerifyIn(FactorIn, kw_only=True):
    """The second step of a login."""

    email: Email
    otp_id: Annotated[str, Meta(max_length=64)] | None = None
    device_id: DeviceId | None = None
    device_info: Any = None


class SendOtpIn(Struct, kw_only=True):
    """Asks for another code; ``purpose`` is registration, login or factor."""

    email: Email
    purpose: Annotated[str, Meta(max_length=50)] = "login"


class RefreshIn(Struct, kw_only=True):
    """The refresh token; a browser that logged in here may leave it to its cookie."""

    refresh: Annotated[str, Meta(max_length=200)] | None = None


class LogoutIn(Struct, kw_only=True):
    """Ends this session, and with ``device_id`` all of that device."""

    device_id: DeviceId | None = None


class MeIn(Struct, kw_only=True):
    """What a person changes of their own account; what is not named stays."""

    name: PersonName | UnsetType = UNSET
    phone: Phone | UnsetType | None = UNSET
    organization: Annotated[str, Meta(max_length=200)] | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns: dict[str, Any] = {}
        if not isinstance(self.name, UnsetType):
            columns["name"] = text("name", self.name)
        if not isinstance(self.phone, UnsetType):
            columns["phone"] = plain_phone(self.phone)
        if not isinstance(self.organization, UnsetType):
            columns["organization"] = optional_text("organization", self.organization)
        return columns


class ChangePasswordIn(Struct, kw_only=True):
    """Another password; the current one where there is one."""

    new_password: Password
    new_password_confirm: Password
    current_password: Password | None = None


class TotpConfirmIn(Struct, kw_only=True):
    """The first code of a new secret."""

    otp_code: Code


class UserIn(Struct, kw_only=True):
    """An account that an administrator makes, or a manager for rangers and viewers."""

    email: Email
    name: PersonName
    role: Role = "viewer"
    password: Password | None = None
    phone: Phone | None = None
    organization: Annotated[str, Meta(max_length=200)] | None = None
    stations: StationIds = []


class UserPatch(Struct, kw_only=True):
    """What an administrator changes of an account; what is not named stays."""

    role: Role | UnsetType = UNSET
    stations: StationIds | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    name: PersonName | UnsetType = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns: dict[str, Any] = {}
        if not isinstance(self.role, UnsetType):
            columns["role"] = self.role
        if not isinstance(self.stations, UnsetType):
            columns["stations"] = tuple(self.stations)
        if not isinstance(self.is_active, UnsetType):
            columns["is_active"] = self.is_active
        if not isinstance(self.name, UnsetType):
            columns["name"] = text("name", self.name)
        return columns


class ApiKeyIn(Struct, kw_only=True):
    """A key for a gateway or a program: what it may do, and at which stations."""

    name: PersonName
    scopes: Annotated[list[str], Meta(min_length=1, max_length=50, description="Such as tracking:write.")]
    role: Role = "ranger"
    stations: StationIds = []


# --- answers ----------------------------------------------------------------------------------------------------------
class MessageOut(Struct, frozen=True):
    """A sentence."""

    message: str


class OpenedOut(Struct, frozen=True, kw_only=True):
    """A code is waited for; ``factor`` says which: otp (sent), totp (the app's) or recovery_code (from paper)."""

    message: str
    otp_id: str
    expires_in: int
    factor: str

    @classmethod
    def of(cls, opened: Opened) -> OpenedOut:
        """Return the public form of a challenge; it tells nobody whether the account exists."""
        words = {
            "otp": "If this account logs in by code, a code was sent.",
            "totp": "Give the code of your authenticator app, or one of your recovery codes.",
            "recovery_code": "The roster of this station is old: give one of your recovery codes.",
        }
        return cls(message=words[opened.factor], otp_id=opened.otp_id, expires_in=OTP_S, factor=opened.factor)


class UserOut(Struct, frozen=True, kw_only=True):
    """An account."""

    id: str
    email: str
    name: str
    phone: str | None
    role: Role
    organization: str | None
    is_active: bool
    is_email_verified: bool
    is_phone_verified: bool
    created_at: datetime
    updated_at: datetime
    last_login: datetime | None
    stations: list[str]
    has_password: bool
    has_totp: bool
    recovery_codes_left: int

    @classmethod
    def of(cls, user: User) -> UserOut:
        """Return the public form of ``user``: no hash and no secret."""
        return cls(
            id=user.id, email=user.email, name=user.name, phone=user.phone, role=user.role,
            organization=user.organization, is_active=user.may_enter, is_email_verified=user.is_email_verified,
            is_phone_verified=user.is_phone_verified, created_at=from_ms(user.created_ms),
            updated_at=from_ms(user.updated_ms),
            last_login=None if user.last_login_ms is None else from_ms(user.last_login_ms),
            stations=list(user.stations), has_password=user.password_hash is not None,
            has_totp=user.totp_sealed is not None, recovery_codes_left=len(user.recovery),
        )  # fmt: skip


class TokensOut(Struct, frozen=True):
    """An access token of 15 minutes, and the refresh token that gives the next, once."""

    access: str
    refresh: str


class LoggedInOut(Struct, frozen=True, kw_only=True):
    """Somebody is in."""

    message: str
    user: UserOut
    tokens: TokensOut

    @classmethod
    def of(cls, found: LoggedIn) -> LoggedInOut:
        """Return the public form of a login."""
        return cls(message="Logged in.", user=UserOut.of(found.user), tokens=TokensOut(found.access, found.refresh))


class TotpOut(Struct, frozen=True):
    """A new secret, shown once, and the same as an app reads it from a QR code; confirm it with its first code."""

    secret: str
    uri: str


class RecoveryOut(Struct, frozen=True):
    """Ten codes to write down, each good once; they are shown only now."""

    recovery_codes: list[str]


class UserMadeOut(Struct, frozen=True, kw_only=True):
    """A new account with its secrets, which are shown only now."""

    user: UserOut
    totp_secret: str | None
    totp_uri: str | None
    recovery_codes: list[str]

    @classmethod
    def of(cls, user: User, seed: str | None, codes: list[str], home: str) -> UserMadeOut:
        """Return the public form of a new account."""
        uri = None if seed is None else factors.enrolment_uri(seed, user.email, home)
        return cls(user=UserOut.of(user), totp_secret=seed, totp_uri=uri, recovery_codes=codes)


class ApiKeyOut(Struct, frozen=True, kw_only=True):
    """A key without its secret; ``key`` is its text, only in the answer that made it."""

    id: str
    name: str
    role: Role
    scopes: list[str]
    stations: list[str]
    made_by: str
    created_at: datetime
    expires_at: datetime
    is_revoked: bool
    former_until: datetime | None
    key: str | None = None

    @classmethod
    def of(cls, key: ApiKey, secret: str | None = None) -> ApiKeyOut:
        """Return the public form of ``key``."""
        return cls(
            id=key.id, name=key.name, role=key.role, scopes=list(key.scopes), stations=list(key.stations),
            made_by=key.made_by, created_at=from_ms(key.created_ms), expires_at=from_ms(key.expires_ms),
            is_revoked=key.revoked_ms is not None,
            former_until=None if key.former_until_ms is None else from_ms(key.former_until_ms), key=secret,
        )  # fmt: skip


class AuditLineOut(Struct, frozen=True, kw_only=True):
    """One thing that somebody did; ``hash`` covers it and the line before."""

    seq: int
    at: datetime
    actor: str
    action: str
    detail: str
    prev_hash: str
    hash: str

    @classmethod
    def of(cls, line: Line) -> AuditLineOut:
        """Return the public form of ``line``."""
        return cls(
            seq=line.seq, at=from_ms(line.at_ms), actor=line.actor, action=line.action, detail=line.detail,
            prev_hash=line.prev_hash, hash=line.hash,
        )  # fmt: skip


class AuditOut(Struct, frozen=True, kw_only=True):
    """A page of the audit log, newest first; ``broken_at`` is the first line that was altered, null for none."""

    count: int
    broken_at: int | None
    results: list[AuditLineOut]
