"""Phones and their enrolment in public form."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlencode

from msgspec import Meta, Struct

from shared.accounts.devices import CODE_S, NewCode, Phone
from shared.sync.records import from_ms
from shared.wire.public.accounts import TokensOut, UserOut

_Hex32 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", description="32 bytes in hex digits.")]
_Hex64 = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}$", description="An Ed25519 signature in hex digits.")]
_Name = Annotated[str, Meta(min_length=1, max_length=100)]
#: What a QR code begins with; an app that opens such links need not scan.
LINK: Final = "outpost://enrol"


class PhoneCodeIn(Struct, frozen=True, kw_only=True):
    """Whose phone may enrol, one's own if left out, and by which address it reaches this home."""

    user_id: Annotated[str, Meta(max_length=100)] | None = None
    url: Annotated[str, Meta(max_length=300, pattern=r"^https?://[^\s?#]+$")] | None = None


class PhoneCodeOut(Struct, frozen=True, kw_only=True):
    """A one-time code, shown only now; ``link`` is what ``qr`` (an SVG) shows."""

    code: str
    user_id: str
    email: str
    url: str
    home: str
    fingerprint: str | None
    pin: str | None
    expires_in_s: int
    link: str
    qr: str

    @classmethod
    def of(cls, made: NewCode, url: str, home: str, fingerprint: str | None, pin: str | None, qr: str) -> PhoneCodeOut:
        """Return the public form of a code."""
        return cls(
            code=made.code, user_id=made.user.id, email=made.user.email, url=url, home=home, fingerprint=fingerprint,
            pin=pin, expires_in_s=round(CODE_S), link=link_of(made.code, url, home, fingerprint), qr=qr,
        )  # fmt: skip


class PhoneEnrolIn(Struct, frozen=True, kw_only=True):
    """A phone's own key, and a signature of `outpost phone enrol`, home, code and key, each on a line."""

    code: Annotated[str, Meta(min_length=1, max_length=40)]
    public_key: _Hex32
    signature: _Hex64
    name: _Name = "phone"


class PhoneLoginIn(Struct, frozen=True, kw_only=True):
    """A number above the last one, and a signature of `outpost phone login`, home, phone and number, each on a line."""

    counter: Annotated[int, Meta(ge=1, lt=2**53)]
    signature: _Hex64


class PhoneOut(Struct, frozen=True, kw_only=True):
    """A phone that has enrolled."""

    id: str
    user_id: str
    name: str
    enrolled_at: datetime
    used_at: datetime
    revoked_at: datetime | None

    @classmethod
    def of(cls, phone: Phone) -> PhoneOut:
        """Return the public form of ``phone``."""
        return cls(
            id=phone.id, user_id=phone.user_id, name=phone.name, enrolled_at=from_ms(phone.enrolled_ms),
            used_at=from_ms(phone.used_ms),
            revoked_at=None if phone.revoked_ms is None else from_ms(phone.revoked_ms),
        )  # fmt: skip


class PhoneEnrolledOut(Struct, frozen=True, kw_only=True):
    """A phone is known, and its person logged in; ``phone.id`` is the device_id of everything that it sends."""

    phone: PhoneOut
    home: str
    user: UserOut
    tokens: TokensOut


def link_of(code: str, url: str, home: str, fingerprint: str | None) -> str:
    """Return what a QR code says: where the home is, who it is, which certificate it shows, and the code."""
    said = {"v": "1", "url": url, "home": home, "code": code}
    if fingerprint:
        said["sha256"] = fingerprint.replace(":", "").lower()
    return f"{LINK}?{urlencode(said)}"
