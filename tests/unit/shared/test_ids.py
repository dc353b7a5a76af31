"""The layout of ids."""

from __future__ import annotations

import uuid

import pytest

from shared.ids import fix_id, fix_time_ms, id_bytes, id_text, random_id

pytestmark = pytest.mark.unit


def test_a_fix_id_is_a_uuid_of_version_8_that_begins_with_its_time() -> None:
    raw = fix_id("eui:0101010101010101", 1_767_225_600_000, 373_380_610, -23_828_796)
    assert len(raw) == 16
    assert raw[:6] == (1_767_225_600_000).to_bytes(6, "big")
    assert fix_time_ms(raw) == 1_767_225_600_000
    parsed = uuid.UUID(bytes=raw)
    assert parsed.version == 8
    assert parsed.variant == uuid.RFC_4122


def test_a_fix_id_never_changes_between_versions_of_the_program() -> None:
    # Stored for ever and compared between stations and cloud: whoever changes the hash breaks every database.
    assert (
        id_text(fix_id("collar:K7", 1_700_000_000_123, 355_000_000, -15_000_000))
        == "018bcfe5-687b-8ac0-b52d-801896795bf1"
    )
    assert id_text(fix_id("collar:K7", 1_700_000_000_123, None, None)) == "018bcfe5-687b-895a-b492-8ebf234208ad"


def test_a_failed_fix_differs_from_one_at_zero() -> None:
    assert fix_id("k", 5, None, None) != fix_id("k", 5, 0, 0)


@pytest.mark.parametrize("raw_ms", [-1, -(2**62), -(2**63)])
def test_a_time_before_1970_sorts_first_and_stays_distinct(raw_ms: int) -> None:
    assert fix_time_ms(fix_id("k", raw_ms, 1, 2)) == 0
    assert fix_id("k", raw_ms, 1, 2) != fix_id("k", 0, 1, 2)


@pytest.mark.parametrize("raw_ms", [2**48, 2**62, 2**63 - 1])
def test_a_time_beyond_48_bits_sorts_last_and_stays_distinct(raw_ms: int) -> None:
    assert fix_time_ms(fix_id("k", raw_ms, 1, 2)) == 2**48 - 1
    assert fix_id("k", raw_ms, 1, 2) != fix_id("k", 2**48 - 1, 1, 2)


def test_a_device_name_cannot_pass_for_another() -> None:
    names = ["", "a", "a\x00", "\x00a", "ab", "A", "é"]
    assert len({fix_id(name, 1, 2, 3) for name in names}) == len(names)


def test_random_ids_are_version_4_and_differ() -> None:
    made = {random_id() for _ in range(200)}
    assert len(made) == 200
    assert {uuid.UUID(text).version for text in made} == {4}
    assert all(text == str(uuid.UUID(text)) for text in made)


@pytest.mark.parametrize("text", ["", "x", "12", "g" * 32, "0" * 31, "0" * 33])
def test_text_that_is_no_uuid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"badly formed|invalid literal"):
        id_bytes(text)
