"""What Outpost says of its own accord: the same sentence in every language, and found again where it was stored."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.accounts.checks import CODE_NOT_RIGHT, NOT_RIGHT
from shared.sayings import LANGUAGES, TEXTS, Said, in_words, read_back, said, say, words_of

pytestmark = pytest.mark.unit

ALARMS = sorted(code for code in TEXTS if code.startswith("alarm."))
#: Names as people give them; none of them has the words of a sentence.
NAMES = st.sampled_from(["Naisha", "Ole Sante", "K 7", "Mama's calf", "Kijiji cha Kati", "Éléonore", "X (2)", "100 %"])


def places(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_is_said_in_every_language_with_the_same_values(language: str) -> None:
    words = words_of(language)
    assert {code: places(text) for code, text in TEXTS.items()} == {code: places(words[code]) for code in TEXTS}


def test_english_pages_say_what_machines_read() -> None:
    english = words_of("en")
    assert {code: english[code] for code in TEXTS if not code.startswith("refused.")} == {
        code: text for code, text in TEXTS.items() if not code.startswith("refused.")
    }


@given(st.sampled_from(ALARMS), NAMES, NAMES, st.integers(0, 999))
def test_an_alarm_that_was_stored_is_found_again(code: str, one: str, other: str, number: int) -> None:
    names = {"animal": one, "zone": other, "corridor": other, "other": other, "kind": "protected_area", "risk": "high"}
    told = said(code, **{name: names.get(name, number) for name in places(TEXTS[code])})
    assert read_back("alarm", told.text) == told


def test_values_that_are_words_are_said_in_the_language() -> None:
    text = say("alarm.zone_inside_more", animal="Naisha", zone="Kimana", kind="protected_area", risk="high")
    assert text == "Naisha is inside Kimana (protected area, risk high)."
    assert in_words(words_of("fr"), "alarm", text) == (
        "Naisha est à l'intérieur de Kimana (Aire protégée, risque élevé)."
    )
    assert said("fault.clock", clock="held").within(words_of("sw")).startswith("saa ni si hakika")


def test_what_a_person_wrote_stays_as_it_is() -> None:
    for text in ("Snares at the river", "", "Naisha is", "{animal} is {0}"):
        assert read_back("alarm", text) is None
        assert in_words(words_of("sw"), "alarm", text) == text


def test_a_name_with_braces_or_dots_harms_nothing() -> None:
    told = said("alarm.near", animal="{other.x}", other="K. (7)")
    assert told.text == "{other.x} is near K. (7)"
    assert read_back("alarm", told.text) == told
    assert "{other.x}" in told.within(words_of("fr"))


def test_who_is_refused_is_told_in_the_pages_language() -> None:
    assert read_back("refused", NOT_RIGHT) == Said(code="refused.not_right")
    assert in_words(words_of("sw"), "refused", CODE_NOT_RIGHT).startswith("Msimbo si sahihi")
