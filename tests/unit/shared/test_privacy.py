"""Precision is one choke point: nothing is read of a store without a view, and views are made in one place."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mypy import api

from edge.store.store import SpatialiteStore
from shared.accounts.sealing import IdVeil
from shared.domain import Corridor
from shared.errors import ConfigError, Forbidden
from shared.privacy import OPERATOR, Principal, View, species_listed, view_for
from shared.store import Store
from shared.sync import reduced as reducing
from shared.sync.phone.upload import Uploaded, shown
from shared.wire.phone.uploads import Conflicted
from tests.memory_store import InMemoryStore

pytestmark = [pytest.mark.unit, pytest.mark.auth]

ROOT = Path(__file__).parents[3]
#: What the home does by itself, for nobody: it returns no rows.
FOR_NOBODY = {"forget_ranger_positions"}
READERS = {name for name, _ in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")} - FOR_NOBODY


def stores() -> Iterator[type]:
    """Give the protocol and whatever implements it; the cloud's where its libraries are installed."""
    yield from (Store, InMemoryStore, SpatialiteStore)
    try:
        yield importlib.import_module("cloud.store.store").PostgresStore
    except ModuleNotFoundError as error:
        if (error.name or "cloud").split(".")[0] in {"cloud", "edge", "shared"}:
            raise


# --- views
@pytest.mark.parametrize("role", ["admin", "conservation_manager", "ranger"])
def test_a_role_that_sees_everything_has_a_view(role: str) -> None:
    principal = Principal(user_id="asha", role=role)  # type: ignore[arg-type]  # one of the roles
    assert view_for(principal) == View(principal=principal)


def test_a_viewer_has_no_view_where_nothing_hides_what_ids_tell() -> None:
    with pytest.raises(Forbidden, match="reduced precision"):
        view_for(Principal(user_id="guest", role="viewer"))
    with pytest.raises(Forbidden, match="reduced precision"):
        view_for(Principal(user_id="asha", role="ranger", stations=("post-1",)))
    assert view_for(OPERATOR).is_exact


@pytest.mark.parametrize(
    ("species", "category"),
    [
        ("Black Rhino", 1), ("white-rhinoceros", 1), ("Diceros bicornis", 1), ("ground  pangolin", 1), (None, 1),
        ("Elephant", 2), ("african wild dog", 2), ("unheard-of beast", 2), ("", 2), ("Grevy\u2019s zebra", 2),
        ("Cape Buffalo", 3), ("giraffe", 3),
        ("Plains Zebra", 4), ("BLUE WILDEBEEST", 4), ("burchell\u2019s zebra", 4),
    ],
)  # fmt: skip
def test_a_species_has_the_category_that_the_file_gives_it(species: str | None, category: int) -> None:
    assert species_listed().category(species) == category


def test_a_copy_of_the_file_is_read_and_a_broken_one_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[categories.1]\nnames = ["elephant"]\n')
    assert species_listed(own).category("Elephant") == 1
    for text in ("[categories.7]\nnames = ['x']", "", "[categories.1]\nnames = [1]", "x ="):
        broken = tmp_path / f"{abs(hash(text))}.toml"
        broken.write_text(text)
        with pytest.raises(ConfigError, match=broken.name):
            species_listed(broken)


@pytest.mark.parametrize("package", ["shared", "edge", "cloud"])
def test_views_are_made_by_view_for_alone(package: str) -> None:
    makers = []
    for path in sorted((ROOT / package).rglob("*.py")):
        if path == ROOT / "shared" / "privacy.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
            is_renamed = isinstance(node, ast.ImportFrom) and any(
                each.name == "View" and each.asname not in (None, "View") for each in node.names
            )
            if name == "View" or is_renamed:
                makers.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")
    assert makers == []


# --- stores
def test_the_protocol_has_the_methods_that_are_looked_at() -> None:
    assert {"animals", "animal", "live_animals", "fixes", "fix", "zones", "alerts", "create_alert"} <= READERS
    assert len(READERS) >= 30


@pytest.mark.parametrize("store", list(stores()), ids=lambda store: store.__name__)
def test_every_method_takes_a_view_before_all_else(store: type) -> None:
    for name in sorted(READERS):
        itself, view, *_ = inspect.signature(getattr(store, name)).parameters.values()
        assert (itself.name, view.name) == ("self", "view"), name
        assert view.annotation in ("View", View), name
        assert view.default is inspect.Parameter.empty, name
        assert view.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD, name


def test_a_read_without_a_view_does_not_type_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = {
        "animals": "store.animals({}AnimalQuery())",
        "animal": "store.animal({}'a')",
        "live_animals": "store.live_animals({})",
        "fixes": "store.fixes({}FixQuery())",
        "alerts": "store.alerts({}AlertQuery())",
    }
    source = [
        "from shared.privacy import Principal, View",
        "from shared.store import AlertQuery, AnimalQuery, FixQuery, Store",
    ]
    for name, call in reads.items():
        source += [f"async def {name}(store: Store, view: View, who: Principal) -> None:"]
        source += [f"    await {call.format('view, ')}", f"    await {call.format('')}  # without"]
        source += [f"    await {call.format('who, ')}  # without"]
    snippet = tmp_path / "snippet.py"
    snippet.write_text("\n".join(source) + "\n")
    monkeypatch.chdir(ROOT)
    said, failed, status = api.run(["--config-file", "pyproject.toml", "--no-color-output", str(snippet)])
    assert (status, failed) == (1, ""), said
    refused = {int(line) for line in re.findall(r"snippet\.py:(\d+): error: ", said)}
    assert refused == {number for number, line in enumerate(source, 1) if line.endswith("# without")}, said


def test_an_upload_tells_rows_of_others_only_to_those_who_see_all_positions() -> None:
    told = Conflicted(
        type="observations", local_id="1", reason="changed_by_someone_else", server_id="a", server_record={"lon_e7": 1}
    )
    uploaded = Uploaded(synced={}, failed={}, conflicts=[told], errors=[], warnings=[], id_map={})
    ranger = Principal(user_id="asha", role="ranger", stations=("post-1",))
    reduced = view_for(ranger, now_ms=0, species=species_listed(), veil=IdVeil(bytes(32)))
    assert [each.server_record for each in shown(reduced, uploaded).conflicts] == [None]
    assert shown(view_for(OPERATOR), uploaded) == uploaded


def test_a_viewer_sees_areas_generalised_and_staff_of_a_station_see_them_whole() -> None:
    veil = IdVeil(bytes(16))
    line = '{"type":"LineString","coordinates":[[37.1234567,-2.7654321],[37.6,-2.7]]}'
    at = datetime(2026, 1, 1, tzinfo=UTC)
    corridor = Corridor(
        id="c", name="Way", created_at=at, updated_at=at, description="past the fig tree", geometry=line,
        start_lon_deg=37.1234567, start_lat_deg=-2.7654321, optimization_data="{}",
    )  # fmt: skip
    guest = view_for(Principal(user_id="guest", role="viewer"), veil=veil)
    seen = reducing.reduced(guest, corridor)
    assert seen.geometry == '{"type":"LineString","coordinates":[[37.12,-2.77],[37.6,-2.7]]}'
    assert (seen.start_lon_deg, seen.start_lat_deg, seen.end_lon_deg) == (37.12, -2.77, None)
    assert (seen.description, seen.optimization_data) == ("", None)
    manager = view_for(Principal(user_id="m", role="conservation_manager", stations=("north",)), veil=veil)
    assert not manager.is_exact
    assert reducing.reduced(manager, corridor) == corridor  # what was rounded would be written back
