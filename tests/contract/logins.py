"""People who log in as people do: with a password and an app, over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pyotp

from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.privacy import OPERATOR, Role
from tests.fakes import FakeClock

PASSWORD = "seven giraffes at dawn"
#: After the program was written, as the codes of a wrong clock are looked for from there on.
NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
AUTH = "/api/v1/auth"


class Ranger:
    """A person with a password and an app, whose phone keeps the true time."""

    def __init__(self, email: str, user: User, seed: str, codes: list[str], clock: FakeClock) -> None:
        self.email = email
        self.user = user
        self.recovery_codes = codes
        self._totp = pyotp.TOTP(seed)
        self._clock = clock
        #: how far the home's clock is off
        self.home_is_off = timedelta()

    def code(self, after_s: float = 0) -> str:
        """Return what the app shows, or will show."""
        return self._totp.at(self._clock.at - self.home_is_off + timedelta(seconds=after_s))


async def enter(accounts: Accounts, clock: FakeClock, role: Role = "ranger", email: str = "asha@example.org") -> Ranger:
    """Enter a person who has a password and an app."""
    user, seed, codes = await accounts.add_user(
        OPERATOR, email=email, name="Asha", role=role, password=PASSWORD, stations=("*",)
    )
    assert seed is not None
    return Ranger(email, user, seed, codes, clock)


async def log_in(nobody: httpx.AsyncClient, ranger: Ranger, **shown: str) -> httpx.Response:
    """Log in with the password and the app's code, or with what is ``shown`` in its place."""
    opened = await nobody.post(f"{AUTH}/login/", json={"email": ranger.email, "password": PASSWORD})
    if opened.status_code != 200:
        return opened
    body = {"email": ranger.email, **(shown or {"otp_code": ranger.code()})}
    return await nobody.post(f"{AUTH}/login/verify/", json=body)


def bearer(answer: httpx.Response) -> dict[str, str]:
    """Return the header that the tokens of a login make."""
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['tokens']['access']}"}
