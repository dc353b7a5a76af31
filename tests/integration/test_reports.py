"""Reports of the cloud: every subject in every format, of what the asker may see, with lines in the audit log."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from openpyxl import load_workbook

from cloud.jobs.kinds import Kinds
from cloud.jobs.report import report_kind
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from shared.habitat import Habitat, NoHabitat, Suited
from shared.movement.areas import Place
from shared.privacy import OPERATOR, view_for
from tests.access import accounts_over
from tests.clouds import serving
from tests.fakes import START, FakeClock
from tests.integration.test_exports import Exporting, N, herd

pytestmark = [pytest.mark.integration, pytest.mark.api]

VIEW = view_for(OPERATOR)
SPAN = {"since": (START - timedelta(days=400)).isoformat(), "until": (START + timedelta(days=1)).isoformat()}
PATH = "/api/v1/reports/"


class EvenHabitat(NoHabitat):
    """Says the same of every place."""

    async def suitability(self, species: str | None, places: Sequence[Place], month: int) -> Suited:
        """Return a half for each."""
        return Suited(suitability=tuple(0.5 for _ in places), model="habitat", version=7, month=month)


class Reporting(Exporting):
    """A cloud that makes reports."""

    async def made(self, client: httpx.AsyncClient, **wish: Any) -> dict[str, Any]:
        """Ask for a report, run it, and return its job as the client sees it."""
        answer = await client.post(PATH, json={**SPAN, **wish})
        assert answer.status_code == 202, answer.text
        await self.worker.run_one(answer.json()["id"])
        job: dict[str, Any] = (await client.get(answer.headers["Location"])).json()
        return job

    async def tables(self, client: httpx.AsyncClient, **wish: Any) -> dict[str, list[dict[str, Any]]]:
        """Return the tables of a report by their titles, each row by its columns."""
        found = json.loads((await self.file(client, format="json", **wish)).text)
        return {
            section["title"]: [dict(zip(section["columns"], row, strict=True)) for row in section["rows"]]
            for section in found["sections"]
        }


@asynccontextmanager
async def reporting(url: str, habitat: Habitat | None = None) -> AsyncIterator[Reporting]:
    @contextmanager
    def maps() -> Iterator[Habitat]:
        yield habitat or NoHabitat()

    clock = FakeClock()
    async with Database.open(url, pool_max=3) as database:
        store = PostgresStore(database, now=clock.now)
        kinds = Kinds([report_kind(store, accounts_over(store, clock).view, maps, clock.now)])
        async with serving(url, kinds=kinds) as cloud:
            yield Reporting(cloud, kinds)


async def test_a_report_is_a_pdf_a_spreadsheet_or_json_and_the_log_has_both_acts(database_url: str) -> None:
    async with reporting(database_url, EvenHabitat()) as at:
        await herd(at.cloud.store)
        manager = await at.client("conservation_manager")
        for subject in ("movement", "corridors", "conflicts", "species", "habitat"):
            pdf = await at.file(manager, subject=subject, format="pdf")
            assert pdf.content.startswith(b"%PDF-")
            assert pdf.content.rstrip().endswith(b"%%EOF")
        sheet = await at.file(manager, subject="movement", format="xlsx")
        book = load_workbook(io.BytesIO(sheet.content))
        assert book.sheetnames == ["About", "Movement of each animal"]
        assert len(list(book["Movement of each animal"].iter_rows())) == 4  # the head, and three animals
        acts = [action for action, _ in at.log() if action.startswith("report")]
        assert acts == ["report", "report.read"] * 6


async def test_labels_and_values_are_in_the_readers_language_and_json_is_for_programs(database_url: str) -> None:
    async with reporting(database_url, EvenHabitat()) as at:
        await herd(at.cloud.store)
        await at.cloud.store.create_alert(
            VIEW,
            {
                "alert_type": "high_risk_zone", "severity": "critical", "title": "Near", "message": "",
                "detected_at": START - timedelta(hours=1),
            },
        )  # fmt: skip
        manager = await at.client("conservation_manager")
        seen = {}
        for language in ("sw", "fr"):
            for subject in ("movement", "corridors", "conflicts", "species", "habitat"):
                wish = {"subject": subject, "language": language}
                assert (await at.file(manager, format="pdf", **wish)).content.startswith(b"%PDF-")
                book = load_workbook(io.BytesIO((await at.file(manager, format="xlsx", **wish)).content))
                seen[language, subject] = [
                    [cell for row in sheet.iter_rows(values_only=True) for cell in row] for sheet in book
                ]
        french = seen["fr", "conflicts"]
        assert french[0][0] == "Conflits"
        assert french[0][1].startswith("Du 2025-")
        assert french[2] == [
            "Genre",
            "Gravité",
            "État",
            "Alertes",
            "Dans une zone à haut risque",
            "Critique",
            "active",
            1,
        ]
        assert seen["sw", "movement"][1][:3] == ["Mnyama", "Spishi", "Mahali"]
        tables = await at.tables(manager, subject="conflicts", language="fr")
        assert tables["By kind"] == [
            {"Kind": "high_risk_zone", "Severity": "critical", "Status": "active", "Alerts": 1}
        ]


async def test_distances_are_those_of_the_track(database_url: str) -> None:
    async with reporting(database_url) as at:
        await herd(at.cloud.store)
        tables = await at.tables(await at.client("admin"), subject="movement", species="elephant")
        (row,) = tables["Movement of each animal"]
        assert row["Fixes"] == N
        # a ten thousandth of a degree of longitude an hour, at 2.77 degrees south
        assert row["Distance, km"] == pytest.approx(11.1195 * (N - 1) / 1000, rel=0.005)
        assert row["Net, km"] == pytest.approx(row["Distance, km"], abs=0.02)


async def test_a_corridor_is_used_by_those_fixes_that_lie_within_half_its_width(database_url: str) -> None:
    async with reporting(database_url) as at:
        await herd(at.cloud.store)
        line = {"type": "LineString", "coordinates": [[37.1235, -2.75], [37.1235, -2.78]]}
        body = {"name": "Narrow", "species": "Elephant", "width_m": 220, "geometry": json.dumps(line)}
        await at.cloud.store.create_corridor(VIEW, body)
        tables = await at.tables(await at.client("admin"), subject="corridors")
        (row,) = tables["Use of corridors"]
        assert (row["Animals"], row["Used it"], row["Fixes"]) == (1, 1, N)
        assert 8 <= row["Inside"] <= 11  # 110 m to the east, 11.1 m a fix


async def test_conflicts_are_counted_by_kind_zone_and_day(database_url: str) -> None:
    async with reporting(database_url) as at:
        ids = await herd(at.cloud.store)
        for hours, severity in ((1, "critical"), (2, "medium"), (30, "medium")):
            await at.cloud.store.create_alert(VIEW, {
                "alert_type": "high_risk_zone", "severity": severity, "title": "In the farm",
                "animal_id": ids["elephant"], "detected_at": START - timedelta(hours=hours),
            })  # fmt: skip
        tables = await at.tables(await at.client("admin"), subject="conflicts")
        assert tables["Conflicts"][0]["Alerts"] == 3
        assert [(row["Severity"], row["Alerts"]) for row in tables["By kind"]] == [("critical", 1), ("medium", 2)]
        assert sum(row["Alerts"] for row in tables["By day"]) == 3
        short = {"since": (START - timedelta(hours=3)).isoformat(), "until": START.isoformat()}
        assert (await at.tables(await at.client("admin"), subject="conflicts", **short))["Conflicts"][0]["Alerts"] == 2


async def test_a_viewer_gets_no_report_of_exact_positions_and_species_only_in_coarse_cells(database_url: str) -> None:
    async with reporting(database_url) as at:
        await herd(at.cloud.store)
        viewer = await at.client("viewer")
        for subject in ("movement", "corridors", "habitat"):
            refused = await viewer.post(PATH, json={**SPAN, "subject": subject})
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), subject
        assert (await (await at.client("ranger")).post(PATH, json={**SPAN, "subject": "species"})).status_code == 403
        answer = await at.file(viewer, subject="species", format="json")
        assert json.loads(answer.text)["is_exact"] is False
        assert "37.12" not in answer.text
        assert "2.765" not in answer.text
        admin = await at.client("admin")
        job = await at.made(viewer, subject="species", format="json")
        assert (await admin.get(f"{PATH}{job['id']}/file/")).status_code == 404  # another's file


async def test_habitat_without_maps_fails_and_says_what_to_do(database_url: str) -> None:
    async with reporting(database_url) as at:
        await herd(at.cloud.store)
        job = await at.made(await at.client("admin"), subject="habitat", format="json")
        assert job["state"] in ("failed", "queued")
        assert "habitat.dir" in job["error"]["detail"]


async def test_habitat_is_told_by_species_and_month(database_url: str) -> None:
    async with reporting(database_url, EvenHabitat()) as at:
        await herd(at.cloud.store)
        rows = (await at.tables(await at.client("admin"), subject="habitat"))["Suitability where animals were"]
        assert {row["Species"] for row in rows} == {"black rhino", "elephant", "plains zebra"}
        assert {row["Mean suitability"] for row in rows} == {0.5}
        assert sum(row["Fixes"] for row in rows) == 3 * N


async def test_a_period_that_ends_before_it_begins_is_refused(database_url: str) -> None:
    async with reporting(database_url) as at:
        admin = await at.client("admin")
        wrong = await admin.post(PATH, json={"subject": "species", "since": "2026-02-01", "until": "2026-01-01"})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid")
