"""What Outpost says of its own accord, as codes with values: one English sentence each, and its reader's language.

The sentences stand here in English, for machines, logs and whoever reads the database. A page, an SMS or a mail says
them in another language by the same code, which is a key of ``shared/web/strings``. A test holds the two to each other.

An alarm is stored in English, as its title and message, and may be years old or come from another station's program.
``read_back`` finds the code and the values of such a sentence again, so that nothing has to be stored twice; what a
person wrote is no sentence of ours and stays as it is.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

STRINGS: Final = Path(__file__).parent / "web" / "strings"
LANGUAGES: Final = ("en", "sw", "fr")
Language = Literal["en", "sw", "fr"]
Words = Mapping[str, str]
#: Areas of sentences: of alarms, of what is wrong with a home, of why nobody is let in, of messages that leave.
Area = Literal["alarm", "fault", "refused", "message"]

TEXTS: Final[Mapping[str, str]] = {
    "alarm.zone_inside": "{animal} is inside {zone}",
    "alarm.zone_inside_more": "{animal} is inside {zone} ({kind}, risk {risk}).",
    "alarm.zone_in": "{animal} is in {zone}",
    "alarm.zone_in_more": "{animal} is in {zone} ({kind}, risk {risk}).",
    "alarm.zone_close": "{animal} is close to {zone}",
    "alarm.zone_close_more": "{animal} is close to {zone} ({kind}, risk {risk}).",
    "alarm.zone_ahead": "{animal} may enter {zone} within {hours} h",
    "alarm.zone_ahead_more": "{animal} may be inside {zone} ({kind}, risk {risk}) in {hours} h: chance {chance} by its"
    " forecast.",
    "alarm.corridor_left": "{animal} has left {corridor}",
    "alarm.corridor_left_more": "{animal} was in the corridor {corridor} for {hours} h and has left it.",
    "alarm.near": "{animal} is near {other}",
    "alarm.near_more": "{animal} is within {metres} m of {other}.",
    "alarm.fled": "{animal} fled and has not moved since",
    "alarm.fled_more": "{animal} ran at {speed} km/h and has then been still for {hours} h. It may be hurt or dead.",
    "alarm.fled_silent": "{animal} fled and its collar is silent",
    "alarm.fled_silent_more": "{animal} ran at {speed} km/h; nothing was heard since, for {hours} h.",
    "alarm.still": "{animal} has not moved for {hours} h",
    "alarm.still_more": "{animal} has stayed within {metres} m for {hours} h, longer than its kind rests.",
    "alarm.fast": "{animal} moves unusually fast",
    "alarm.fast_more": "{animal} went {km} km in {minutes} minutes.",
    "alarm.unusual": "{animal} moves unlike itself",
    "alarm.unusual_more": "The last {steps} steps of {animal} are {spreads} spreads less likely than its usual ones.",
    "alarm.silent": "The collar of {animal} is silent",
    "alarm.silent_more": "Nothing was heard of {animal} for {hours} h; usually a fix comes every {interval}.",
    "alarm.battery": "The battery of {animal}'s collar is low",
    "alarm.battery_more": "The collar of {animal} is at {charge}.",
    "alarm.battery_days": "The collar of {animal} is at {charge}, about {days} days left by its own course.",
    "alarm.weak": "The collar of {animal} is heard faintly",
    "alarm.weak_more": "The last {fixes} fixes of {animal} came at {dbm} dBm.",
    "alarm.faulty": "The collar of {animal} is faulty",
    "alarm.faulty_fixes": "Of the last {of} reports of {animal}'s collar {count} are bad: attempts to find a position"
    " failed.",
    "alarm.faulty_readings": "Of the last {of} reports of {animal}'s collar {count} are bad: readings of its battery or"
    " clock cannot be.",
    "alarm.no_position": "The collar of {animal} finds no position",
    "alarm.no_position_more": "The collar of {animal} is heard, but has sent no position for {hours} h.",
    "fault.disk_low": "the disk has {mib} MiB left",
    "fault.disk_full": "the disk is {used} % full",
    "fault.segment_closed": "ledger segment {name} is damaged and was closed",
    "fault.segment_damaged": "ledger segment {name}: {reason}",
    "fault.ledger": "the ledger refuses: {reason}",
    "fault.database": "the database: {reason}",
    "fault.clock": "the clock is {clock}: nothing is expired until it is sure",
    "fault.link": "link {link} is down: {reason}",
    "fault.model": "model {model} was refused: {reason}",
    "fault.healed": "the database was damaged ({reason}) and lies at {name}",
    "fault.healed_in_use": "the database was damaged ({reason}) and is still in use",
    "fault.backup": "the last backup failed: {reason}",
    "fault.backup_late": "no backup was made for hours",
    "fault.roster": "the roster of who may log in is {days} days old",
    "refused.not_right": "the address or the password is not right",
    "refused.code_not_right": "the code is not right, was used before, or has expired; where this home's clock is"
    " wrong, wait for the app's next code and give both: otp_code and otp_code_next",
    "refused.too_many": "too many attempts: wait a little",
    "refused.password": "password: is required at a station, with the code of your app",
    "refused.no_factor": "this account has no second factor: an administrator makes it one",
    "message.alarm": "OUTPOST {station}: {title} ({severity}, {at} UTC)",
    "message.clock": "{at} UTC ({clock})",
    "message.many": "OUTPOST {station}: many alarms, look at the station. No more messages this hour",
    "message.code_subject": "Your Outpost code",
    "message.code": "Your Outpost code is {code}. It is good for {minutes} minutes. Nobody from Outpost will ask you"
    " for it.",
}
#: Values that are words themselves: by which area of the strings they are said.
VALUE_AREAS: Final = {"kind": "zone_type", "risk": "risk", "clock": "clock"}

#: Values that people chose.
_NAMES: Final = ("animal", "zone", "corridor", "other")


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence of ours: its code, and what stands in its places."""

    code: str
    values: dict[str, str] = {}

    @property
    def text(self) -> str:
        """Return it in English."""
        plain = {name: value.replace("_", " ") if name == "kind" else value for name, value in self.values.items()}
        return TEXTS[self.code].format_map(plain)

    def within(self, words: Words) -> str:
        """Return it in a language's words."""
        told = {
            name: words.get(f"{VALUE_AREAS[name]}.{value}", value) if name in VALUE_AREAS else value
            for name, value in self.values.items()
        }
        return words[self.code].format_map(told)


def said(code: str, /, **values: object) -> Said:
    """Return the sentence of a code."""
    return Said(code=code, values={name: str(value) for name, value in values.items()})


def say(code: str, /, **values: object) -> str:
    """Return the sentence of a code in English."""
    return said(code, **values).text


@functools.lru_cache(maxsize=4096)
def read_back(area: Area, text: str) -> Said | None:
    """Return the code and the values of an English sentence of ours; None of any other.

    Where names make a sentence of two, the one with more words of its own is meant.
    """
    for code, pattern in _patterns(area):
        if (found := pattern.fullmatch(text)) is not None:
            values = {n: v.replace(" ", "_") if n == "kind" else v for n, v in found.groupdict().items()}
            return Said(code=code, values=values)
    return None


def in_words(words: Words, area: Area, text: str) -> str:
    """Return an English sentence of ours in a language's words, and any other as it is."""
    found = read_back(area, text)
    return text if found is None else found.within(words)


@functools.cache
def words_of(language: str) -> Words:
    """Return the strings of a language."""
    words: dict[str, str] = json.loads((STRINGS / f"{language}.json").read_text(encoding="utf-8"))
    return words


def _look_of(name: str) -> str:
    """Return what a value looks like: no more than two of a sentence may be anything, or who writes long ones waits."""
    if name in _NAMES:
        return ".+?"
    return "[a-z_ ]+" if name in VALUE_AREAS else r"[-\d.]+ ?[A-Za-z%]*"


@functools.cache
def _patterns(area: Area) -> list[tuple[str, re.Pattern[str]]]:
    """Return what the sentences of an area look like, the ones with most words of their own first."""
    mine = {code: text for code, text in TEXTS.items() if code.startswith(f"{area}.")}
    found = []
    for code, text in sorted(mine.items(), key=lambda each: -len(re.sub(r"\{\w+\}", "", each[1]))):
        parts = re.split(r"\{(\w+)\}", text)
        look = "".join(f"(?P<{part}>{_look_of(part)})" if n % 2 else re.escape(part) for n, part in enumerate(parts))
        found.append((code, re.compile(look, re.DOTALL)))
    return found
