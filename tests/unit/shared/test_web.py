"""The pages' words, in every language, and files in pieces."""

from __future__ import annotations

import json
import re
from typing import get_args

import pytest

from shared.api.ranges import span_of
from shared.api.web import WEB
from shared.sayings import LANGUAGES, words_of
from shared.sync.clashes import ClashKind

pytestmark = [pytest.mark.unit, pytest.mark.web]

SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted((WEB / "src").rglob("*.ts*"))}
_PLAIN = re.compile(r"""\bt\(\s*["']([a-z_.]+)["']|(?:label|isShown): ["'](nav\.[a-z]+)["']""")
#: Words of these areas are looked up by a value of the API: each value has a key in each language.
AREAS = {
    "severity": {"low", "medium", "high", "critical"},
    "alert_status": {"active", "acknowledged", "resolved", "false_alarm"},
    "role": {"admin", "conservation_manager", "ranger", "viewer"},
    "status": {"ok", "degraded", "failing"},
    "clock": {"unset", "held", "admin", "gnss", "ntp"},
    "gender": {"male", "female", "unknown"},
    "health": {"healthy", "injured", "sick", "unknown"},
    "animal_status": {"active", "inactive", "deceased", "missing"},
    "observation_type": {"sighting", "behavior", "health", "environment"},
    "zone_type": {"agriculture", "settlement", "road", "infrastructure", "protected_area", "buffer_zone"},
    "risk": {"high", "medium", "low"},
    "age": {"fresh", "late", "silent", "unknown"},
    "layer": {"trails", "predictions", "zones", "corridors", "names", "grid", "all_fixes"},
    "theme": {"light", "dark", "night", "system"},
    "login.hint": {"totp", "otp", "recovery_code"},
    "user": {"revoke", "restore"},
    "conflict": {"keep_server", "keep_client", "merge", "keep_both"},
    "conflict_kind": set(get_args(ClashKind)),
    "model_status": {"ready", "degraded", "unavailable"},
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_word_with_the_same_places_for_values(language: str) -> None:
    english, words = words_of("en"), words_of(language)
    assert words.keys() == english.keys()
    for key, text in words.items():
        assert text.strip(), key
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", english[key])), key


def test_other_languages_are_not_english_in_disguise() -> None:
    english = words_of("en")
    for language in ("sw", "fr"):
        same = [key for key, text in words_of(language).items() if text == english[key] and len(text) > 3]
        assert len(same) < len(english) / 8, (language, same)


def test_every_word_that_a_page_asks_for_is_there() -> None:
    asked = {key for text in SOURCES.values() for found in _PLAIN.findall(text) for key in found if key}
    asked |= set(re.findall(r"""_text\(words, ["']([a-z_.]+)["']\)""", (WEB.parent / "api" / "web.py").read_text()))
    assert len(asked) > 150
    assert sorted(asked - words_of("en").keys()) == []


def test_every_value_of_the_api_that_a_page_names_has_its_word() -> None:
    missing = [f"{area}.{value}" for area, values in AREAS.items() for value in values]
    assert [key for key in missing if key not in words_of("en")] == []


def test_the_lock_of_the_pages_names_no_registry_and_pins_everything() -> None:
    lock = (WEB / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in lock
    assert '"resolved"' not in lock
    manifest = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    pinned = [*manifest["dependencies"].values(), *manifest["devDependencies"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pinned)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 0)), ("bytes=10-19", (10, 19)), ("bytes=90-", (90, 99)), ("bytes=90-500", (90, 99)),
        ("bytes=-10", (90, 99)), ("bytes=-500", (0, 99)), ("bytes=0-1,5-6", None), ("bytes=-", None),
        ("lines=1-2", None), ("bytes=9-3", None),
    ],
)  # fmt: skip
def test_a_range_is_read_as_the_standard_says(header: str, span: tuple[int, int] | None) -> None:
    assert span_of(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200"])
def test_a_range_behind_the_end_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="100 bytes"):
        span_of(header, 100)
