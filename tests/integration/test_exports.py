"""Exports of the cloud: whole, as precise as the role of who asks, with a fresh factor, and with a line in the log."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pyarrow import parquet

from cloud.jobs.export import FORMATS, export_kind, export_to
from cloud.jobs.kinds import Kinds
from cloud.jobs.worker import JobWorker
from cloud.store.database import Database
from cloud.store.export import Selection
from cloud.store.store import PostgresStore
from shared.domain import NewFix
from shared.errors import NotFound
from shared.privacy import OPERATOR, view_for
from tests.access import TokenAuth, accounts_over, logged_in, person
from tests.clouds import Cloud, serving
from tests.contract.conftest import client_of
from tests.fakes import START, FakeClock
from tests.workers import QUICK

pytestmark = [pytest.mark.integration, pytest.mark.api]

VIEW = view_for(OPERATOR)
N = 300


async def herd(store: PostgresStore) -> dict[str, str]:
    """Enter a rhino, an elephant and a zebra with fixes of the last days; return their ids."""
    ids = {}
    for number, species in enumerate(("black rhino", "elephant", "plains zebra")):
        animal = await store.create_animal(VIEW, {"name": f"{species} Ä", "species": species})
        await store.create_deployment(
            VIEW,
            {"animal_id": animal.id, "collar_id": f"K{number}", "started_at": START - timedelta(days=99)},
        )
        await store.add_fixes(
            VIEW,
            [
                NewFix(
                    device=f"K{number}", recorded_at=at, received_at=at, lon_deg=37.1234567 + step / 1e4,
                    lat_deg=-2.7654321, speed_mps=0.5,
                )
                for step in range(1, N + 1)
                for at in [START - timedelta(hours=step)]
            ],
        )  # fmt: skip
        ids[species] = animal.id
    return ids


class Exporting:
    """A cloud that makes exports: a job is run where it is waited for."""

    def __init__(self, cloud: Cloud, kinds: Kinds) -> None:
        self.cloud = cloud
        self.worker = JobWorker(
            cloud.database, kinds, owner_of=cloud.accounts.principal, now=cloud.clock.now, settings=QUICK
        )

    async def client(self, role: Any, *, is_fresh: bool = True, **said: Any) -> httpx.AsyncClient:
        """Return a client of a role."""
        user = await person(self.cloud.accounts, role, **said)
        access, _ = await logged_in(self.cloud.accounts, user, is_fresh=is_fresh)
        return client_of(self.cloud.app, TokenAuth(lambda: access))

    async def made(self, client: httpx.AsyncClient, **wish: Any) -> dict[str, Any]:
        """Ask for an export, run it, and return its job as the client sees it."""
        answer = await client.post("/api/v1/exports/", json=wish)
        assert answer.status_code == 202, answer.text
        await self.worker.run_one(answer.json()["id"])
        job: dict[str, Any] = (await client.get(answer.headers["Location"])).json()
        return job

    async def file(self, client: httpx.AsyncClient, **wish: Any) -> httpx.Response:
        """Ask for an export, run it and fetch the file."""
        job = await self.made(client, **wish)
        assert job["state"] == "succeeded", job
        answer = await client.get(job["result"]["url"])
        assert answer.status_code == 200, answer.text
        return answer

    def log(self) -> list[tuple[str, str]]:
        """Return action and words of the audit log."""
        return [(str(a), str(d)) for a, d in self.cloud.ask("SELECT action, detail FROM audit ORDER BY seq")]


@asynccontextmanager
async def exporting(url: str) -> AsyncIterator[Exporting]:
    clock = FakeClock()
    async with Database.open(url, pool_max=3) as database:
        accounts = accounts_over(PostgresStore(database, now=clock.now), clock)
        kinds = Kinds([export_kind(database, accounts.view)])
        async with serving(url, kinds=kinds) as cloud:
            yield Exporting(cloud, kinds)


def rows_of(answer: httpx.Response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text)))


async def test_a_manager_gets_every_fix_exactly_in_every_format_and_the_log_has_both_acts(
    database_url: str, tmp_path: Path
) -> None:
    async with exporting(database_url) as at:
        await herd(at.cloud.store)
        manager = await at.client("conservation_manager")
        for form in FORMATS:
            answer = await at.file(manager, format=form)
            assert int(answer.headers["content-length"]) == len(answer.content)
            assert answer.headers["cache-control"] == "no-store"
            assert re.fullmatch(
                r'attachment; filename="outpost-[0-9a-f]{8}\.\w+"', answer.headers["content-disposition"]
            )
            holds: dict[str, Callable[[httpx.Response], int]] = {
                "tidy": lambda got: len(rows_of(got)),
                "movebank": lambda got: len(rows_of(got)),
                "gpx": lambda got: got.text.count("<trkpt"),
                "geojson": lambda got: len(json.loads(got.text)["features"]),
                "kml": lambda got: got.text.count("<gx:coord>"),
                "geoparquet": lambda got: int(parquet.read_table(io.BytesIO(got.content)).num_rows),
            }
            if form in holds:
                assert holds[form](answer) == 3 * N, form
        tidy = rows_of(await at.file(manager, format="tidy"))
        assert [row["individual"] for row in tidy] == sorted(row["individual"] for row in tidy)
        assert {row["lat"] for row in tidy} == {"-2.7654321"}
        asked = [words for action, words in at.log() if action == "export"]
        fetched = [words for action, words in at.log() if action == "export.read"]
        assert len(asked) == len(fetched) == len(FORMATS) + 1
        assert all(words.endswith("exact") and "2.76" not in words for words in asked + fetched)


async def test_a_selection_leaves_out_what_was_not_asked_for(database_url: str) -> None:
    async with exporting(database_url) as at:
        ids = await herd(at.cloud.store)
        manager = await at.client("conservation_manager")
        rows = rows_of(await at.file(manager, animals=[ids["elephant"], "plains zebra Ä"]))
        assert {row["species"] for row in rows} == {"elephant", "plains zebra"}
        since, until = START - timedelta(hours=10), START - timedelta(hours=5)
        rows = rows_of(await at.file(manager, species="elephant", since=since.isoformat(), until=until.isoformat()))
        assert len(rows) == 5
        lost = await at.made(manager, animals=["nobody"])
        assert (lost["state"], lost["error"]["code"]) == ("failed", "not_found")
        for bad in ({"format": "shapefile"}, {"since": "yesterday"}, {"since": "2026-01-02", "until": "2026-01-01"}):
            refused = await manager.post("/api/v1/exports/", json=bad)
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid"), bad


async def test_a_viewer_gets_cells_and_delays_in_every_format_and_needs_no_factor(database_url: str) -> None:
    async with exporting(database_url) as at:
        await herd(at.cloud.store)
        around = [[[37.0, -3.0], [37.3, -3.0], [37.3, -2.5], [37.0, -2.5], [37.0, -3.0]]]
        await at.cloud.store.create_zone(
            VIEW,
            {
                "name": "Reserve", "zone_type": "protected_area", "risk_level": "low", "buffer_m": 0.0,
                "geometry": json.dumps({"type": "Polygon", "coordinates": around}), "is_active": True,
            },
        )  # fmt: skip
        viewer = await at.client("viewer", is_fresh=False)
        for form in FORMATS:
            answer = await at.file(viewer, format=form)
            body = answer.content
            if form == "geoparquet":
                body = str(parquet.read_table(io.BytesIO(body)).to_pylist()).encode()
            assert b"7654321" not in body, form
            assert b"1234567" not in body, form
        rows = rows_of(await at.file(viewer, format="tidy"))
        by_species: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            by_species.setdefault(row["species"], []).append(row)
        assert {row["lat"] for row in by_species["elephant"]} == {"-2.7500000"}
        assert len(by_species["elephant"]) == N - 71
        assert {row["lat"] for row in by_species["plains zebra"]} == {"-2.7650000"}
        assert {(row["lon"], row["lat"], row["area"]) for row in by_species["black rhino"]} == {("", "", "Reserve")}
        assert {row["area"] for row in by_species["elephant"]} == {""}
        assert {row["speed_mps"] for row in rows} == {""}


async def test_exact_positions_leave_only_after_a_fresh_factor_and_never_with_a_ranger(database_url: str) -> None:
    async with exporting(database_url) as at:
        for role in ("admin", "conservation_manager"):
            stale = await at.client(role, is_fresh=False)
            refused = await stale.post("/api/v1/exports/", json={})
            assert (refused.status_code, refused.json()["code"]) == (403, "factor_required")
        some = await at.client("conservation_manager", is_fresh=False, stations=("post-1",), name="some")
        assert (await some.post("/api/v1/exports/", json={})).json()["code"] == "factor_required"
        ranger = await at.client("ranger")
        assert (await ranger.post("/api/v1/exports/", json={})).json()["code"] == "forbidden"
        assert at.cloud.count("jobs") == 0


async def test_a_file_is_for_who_asked_with_the_rights_of_then_while_it_lasts(database_url: str) -> None:
    async with exporting(database_url) as at:
        await herd(at.cloud.store)
        manager = await at.client("conservation_manager")
        other = await at.client("conservation_manager", name="other")
        waits = (await manager.post("/api/v1/exports/", json={})).json()
        path = f"/api/v1/exports/{waits['id']}/file/"
        assert (await manager.get(path)).status_code == 409
        await at.worker.run_one(waits["id"])
        assert (await other.get(path)).status_code == 404
        assert (await at.cloud.client.get(path)).status_code == 404  # an administrator sees the job, not the file
        assert (await manager.get(path)).status_code == 200
        asked = (await manager.post("/api/v1/exports/", json={})).json()
        at.cloud.ask("UPDATE users SET role = 'viewer' WHERE email = 'conservation_manager@example.org'")
        assert (await manager.get(path)).status_code == 403
        await at.worker.run_one(asked["id"])
        assert (await manager.get(f"/api/v1/jobs/{asked['id']}/")).json()["error"]["code"] == "forbidden"
        at.cloud.ask("UPDATE users SET role = 'conservation_manager' WHERE email = 'conservation_manager@example.org'")
        at.cloud.clock.tick(25 * 3_600)
        access, _ = await logged_in(at.cloud.accounts, await person(at.cloud.accounts, "conservation_manager"))
        async with client_of(at.cloud.app, TokenAuth(lambda: access)) as later:
            gone = await later.get(path)
        assert gone.status_code == 404
        assert "expired" in gone.json()["detail"]


async def test_who_was_shut_out_meanwhile_gets_no_export(database_url: str) -> None:
    async with exporting(database_url) as at:
        manager = await at.client("conservation_manager")
        asked = (await manager.post("/api/v1/exports/", json={})).json()
        user = await person(at.cloud.accounts, "conservation_manager")
        await at.cloud.accounts.revoke(OPERATOR, user.id)
        await at.worker.run_one(asked["id"])
        job = (await at.cloud.client.get(f"/api/v1/jobs/{asked['id']}/")).json()
        assert (job["state"], job["error"]["code"]) == ("failed", "forbidden")


async def test_more_exports_than_a_few_wait_for_the_first_to_end(database_url: str) -> None:
    async with exporting(database_url) as at:
        viewer = await at.client("viewer")
        codes = [(await viewer.post("/api/v1/exports/", json={})).status_code for _ in range(12)]
        assert codes == [202] * 10 + [429] * 2
        assert at.cloud.count("jobs") == 10


async def test_an_export_to_a_file_here_is_the_same_bytes(database_url: str, tmp_path: Path) -> None:
    async with exporting(database_url) as at:
        await herd(at.cloud.store)
        manager = await at.client("conservation_manager")
        answer = await at.file(manager, format="gpx")
        told: list[tuple[int, int]] = []
        with (tmp_path / "a.gpx").open("wb") as file:
            n = await export_to(at.cloud.database, VIEW, Selection(), "gpx", file, lambda *at: told.append(at))
        assert n == 3 * N
        assert (tmp_path / "a.gpx").read_bytes() == answer.content
        with pytest.raises(NotFound), (tmp_path / "b").open("wb") as file:
            await export_to(at.cloud.database, VIEW, Selection(animals=("nobody",)), "gpx", file, lambda *_: None)
