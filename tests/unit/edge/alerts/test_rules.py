"""The table of rules, what the configuration changes of it, and what its README says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from edge.alerts.rules import CATEGORIES, RULES, TABLE, AnimalRules, read_rules, rule_book
from edge.config import load
from shared.errors import ConfigError
from shared.movement.kinds import Category, category_of

pytestmark = pytest.mark.unit

README = Path(__file__).parents[4] / "edge" / "alerts" / "README.md"


def said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def rows() -> list[str]:
    """Return the table of the README: a number's default, and what kinds of animals have otherwise."""
    found = []
    for rule in RULES:
        plain = AnimalRules().of(rule)
        for field in msgspec.structs.fields(plain):
            default = getattr(plain, field.name)
            others = [
                f"{category} {said(own)}"
                for category in CATEGORIES
                if (own := getattr(TABLE[category].of(rule), field.name)) != default
            ]
            found.append(f"| `{rule}` | `{field.name}` | {said(default)} | {'; '.join(others)} |")
    return found


def test_the_table_of_the_readme_is_the_table_of_the_rules() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("| `") and line.count("|") == 5 and line in rows()] == rows(), (
        "put this into edge/alerts/README.md:\n" + "\n".join(rows())
    )


def test_every_rule_has_numbers_and_every_kind_all_rules() -> None:
    assert {field.name for field in msgspec.structs.fields(AnimalRules)} == set(RULES)
    assert set(TABLE) == set(CATEGORIES) == set(get_args(Category))


@pytest.mark.parametrize(
    ("species", "category"),
    [
        ("Loxodonta africana", "elephant"), ("African elephants", "elephant"), ("Diceros bicornis", "rhino"),
        ("Syncerus caffer", "buffalo"), ("lion", "predator"), ("Blue_wildebeest", "ungulate"), ("", "other"),
        (None, "other"), ("Orycteropus afer", "other"),
    ],
)  # fmt: skip
def test_species_have_a_kind(species: str | None, category: str) -> None:
    assert category_of(species) == category


def test_a_layer_changes_a_number_for_all_or_for_one_kind() -> None:
    book = rule_book(
        {"zone_entry": {"margin_m": 80.0}, "fresh_hours": 4.0},
        {"zone_entry": {"elephant": {"margin_m": 120.0}}, "silent_collar": {"is_on": False}},
    )
    assert book.rules_for("elephant").zone_entry.margin_m == 120.0
    assert book.rules_for("lion").zone_entry.margin_m == 80.0
    assert not book.rules_for("lion").silent_collar.is_on
    assert book.fresh_hours == 4.0
    assert rule_book().by_category == TABLE


@pytest.mark.parametrize(
    "layer",
    [
        {"zone_entri": {}},
        {"zone_entry": {"margin": 80.0}},
        {"zone_entry": {"margin_m": "wide"}},
        {"zone_entry": {"margin_m": -5.0}},
        {"zone_entry": {"whale": {"margin_m": 5.0}}},
        {"zone_entry": {"elephant": 5}},
        {"zone_entry": 5},
        {"zone_entry": {"zone_types": ["volcano"]}},
        {"zone_entry": {"schedule": {"timezone": "Africa/Nowhere", "begins": "18:00", "ends": "06:00"}}},
        {"zone_entry": {"schedule": {"timezone": "Africa/Nairobi", "begins": "6", "ends": "06:00"}}},
        {"zone_entry": {"schedule": {"timezone": "Africa/Nairobi", "begins": "25:00", "ends": "06:00"}}},
        {"zone_entry": {"schedule": {"timezone": "Africa/Nairobi", "begins": "18:00", "ends": "06:00", "days": []}}},
        {"fresh_hours": -1},
    ],
)
def test_a_layer_that_means_nothing_is_refused(layer: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="alerts"):
        rule_book(layer)


def test_the_configuration_goes_over_the_file_that_it_names(tmp_path: Path) -> None:
    rules = tmp_path / "alerts.toml"
    rules.write_text("[zone_entry]\nmargin_m = 70.0\nclear_hours = 1.0\n")
    config = tmp_path / "station.toml"
    config.write_text(f'[alerts]\nfile = "{rules}"\n[alerts.rules.zone_entry.elephant]\nmargin_m = 90.0\n')
    book = load(config, {}).rule_book()
    assert book.rules_for("elephant").zone_entry.margin_m == 90.0
    assert book.rules_for("lion").zone_entry.margin_m == 70.0
    assert book.rules_for("elephant").zone_entry.clear_hours == 1.0


def test_a_bad_rule_stops_the_station_at_its_start(tmp_path: Path) -> None:
    config = tmp_path / "station.toml"
    config.write_text("[alerts.rules.zone_entry]\nmargin = 90.0\n")
    with pytest.raises(ConfigError, match="margin"):
        load(config, {})
    config.write_text(f'[alerts]\nfile = "{tmp_path / "none.toml"}"\n')
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load(config, {}).rule_book()
    with pytest.raises(ConfigError, match="JSON"):
        load(None, {"OUTPOST_ALERTS_RULES": "margin_m = 5"})
    with pytest.raises(ConfigError, match=r"none\.toml"):
        read_rules(tmp_path / "none.toml")
