"""A ranger logs in at a station whose cloud is gone, between programs of their own, until the next roster says no."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest

from tests.e2e.test_two_homes import TwoHomes
from tests.faults.station_process import until

pytestmark = [pytest.mark.auth, pytest.mark.sync, pytest.mark.slow]

ASHA = "asha@example.org"
AUTH = "/api/v1/auth"


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[TwoHomes]:
    """Give both homes, running."""
    homes = TwoHomes(tmp_path)
    try:
        homes.cloud.create()
        homes.cloud.start()
        code = homes.cloud.command("station", "add", "North post")["code"]
        homes.run("enrol", homes.proxy.url, code)
        homes.station.start()
        until(lambda: is_ready(homes.station.url), "the station", 120)  # how soon is promised elsewhere
        yield homes
    finally:
        homes.close()


def is_ready(url: str) -> bool:
    """Say whether a home answers."""
    try:
        return httpx.get(f"{url}/health/ready", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def log_in(phone: httpx.Client, made: dict[str, Any]) -> httpx.Response:
    """Log in with password and the app's codes: two in a row, in case the station does not trust its clock."""
    opened = phone.post(f"{AUTH}/login/", json={"email": ASHA, "password": made["password"]})
    if opened.status_code != httpx.codes.OK:
        return opened
    app, now = pyotp.TOTP(made["totp_secret"]), int(time.time())
    codes = {"otp_code": app.at(now), "otp_code_next": app.at(now + 30)}
    body = {"email": ASHA, "otp_id": opened.json()["otp_id"], **codes}
    return phone.post(f"{AUTH}/login/verify/", json=body)


def test_a_ranger_logs_in_with_no_cloud_until_the_next_roster_says_no(homes: TwoHomes) -> None:
    made = homes.cloud.command("user", "add", ASHA, "--role", "ranger", "--generate")
    until(lambda: ASHA in homes.run("user", "list", "--json").stdout, "the roster", 120)
    homes.cloud.kill()
    with httpx.Client(base_url=homes.station.url, timeout=120) as phone:
        assert phone.get("/api/v1/animals/").status_code == 401
        entered = log_in(phone, made)
        assert entered.status_code == 200, (entered.text, homes.station.tail())
        header = {"Authorization": f"Bearer {entered.json()['tokens']['access']}"}
        phone.cookies.clear()
        assert phone.get("/api/v1/animals/", headers=header).status_code == 200
        report = {"observation_type": "sighting", "timestamp": "2026-01-01T00:00:00Z", "description": "three"}
        assert phone.post("/api/v1/tracking/observations/", headers=header, json=report).status_code == 201
        homes.cloud.start()
        revoke(homes)
        until(lambda: phone.get("/api/v1/animals/", headers=header).status_code == 401, "that she is shut out", 120)
        assert log_in(phone, made).status_code == 401


def revoke(homes: TwoHomes) -> None:
    """Shut her out, in the cloud."""
    with httpx.Client(base_url=homes.cloud.url, auth=homes.cloud.auth, timeout=120) as operator:
        (found,) = operator.get("/api/v1/users/", params={"search": ASHA}).json()["results"]
        answer = operator.post(f"/api/v1/users/{found['id']}/revoke/")
        assert answer.status_code == 200, answer.text
