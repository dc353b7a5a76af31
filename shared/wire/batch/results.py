"""What a station's models said of its animals, as a batch: steps in columns, the rest in lists.

A batch has three sections: text and numbers of the steps (``columns``), and MessagePack of the rest. All of it says
what *stands*, so that reading it twice, or one of after it before it was put back, ends where reading it once does:

- a ``Stretch`` says that the steps of this batch are all there are of an animal between two instants;
- ``Said`` is what models last said of an animal, and stands in the place of what they said before;
- a ``MapPart`` holds tiles of an animal's map of occurrence that changed; those that are empty are no more. Its map is
  whole again with the part that has its head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from shared.errors import Invalid
from shared.insight import Advice, Predicted
from shared.wire.batch.columns import Column, Columns, Table, read_columns, write_columns
from shared.wire.batch.container import MAX_ROWS, RESULTS, pack, unpack
from shared.wire.batch.schema import ColumnLadder

#: Places in this tuple are on the wire: never reorder, only append (and raise the version).
STEP_COLUMNS: Final = (
    Column("animal_id", "text", is_optional=False),
    Column("ended_ms", "integer", is_optional=False, orders=(1, 2)),
    Column("started_ms", "integer", is_optional=False, after="ended_ms"),
    Column("state", "text", is_optional=False),
    Column("confidence", "decimal", is_optional=False),
    Column("is_settled", "integer", is_optional=False, default=1),
    Column("step_m", "decimal", is_optional=False),
    Column("log_likelihood", "decimal", is_optional=False),
)
#: To so many decimals a step is told: what is finer tells nothing.
STEP_DECIMALS: Final[Mapping[str, int]] = {"confidence": 3, "step_m": 1, "log_likelihood": 3}

RESULT_LADDER: Final = ColumnLadder(Table("steps", STEP_COLUMNS, order=("ended_ms",), claims=("is_settled",)))


class Stretch(msgspec.Struct, frozen=True, array_like=True):
    """Of an animal every step that ends from ``since_ms`` through ``until_ms`` is in this batch; None: to the end."""

    animal_id: str
    since_ms: int
    until_ms: int | None


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What models last said of an animal, of its fix at ``through_ms``; ``told_ms`` is when the batch was made.

    ``models`` gives name and version of what spoke, by stage, ``missing`` why a stage does not. Nothing but the id: of
    the animal nothing is said any more.
    """

    animal_id: str
    through_ms: int | None = None
    told_ms: int = 0
    interval_s: float | None = None
    path_sd_m: float | None = None
    suitability: float | None = None
    distance_24h_m: float | None = None
    models: dict[str, str] = {}
    missing: dict[str, str] = {}
    advice: Advice | None = None
    predicted: tuple[Predicted, ...] = ()


class MapHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a map of occurrence is of; ``head`` is that of ``models.bbmm.runtime.Utilisation``."""

    since_ms: int
    through_ms: int
    model: str
    head: bytes


class MapPart(msgspec.Struct, frozen=True, kw_only=True):
    """Tiles of an animal's map by row and column, and its head where these are the last that had changed."""

    animal_id: str
    tiles: list[tuple[int, int, bytes]]
    head: MapHead | None = None


class Rest(msgspec.Struct, frozen=True, array_like=True):
    """What is not in columns."""

    stretches: list[Stretch] = []
    said: list[Said] = []
    maps: list[MapPart] = []


class Results(msgspec.Struct, frozen=True):
    """What a batch holds."""

    steps: Columns
    rest: Rest


NO_STEPS: Final[Columns] = {column.name: [] for column in STEP_COLUMNS}


def encode_results(results: Results) -> bytes:
    """Return results as a batch; raises Invalid for more than a batch may hold."""
    text, numbers = write_columns(RESULT_LADDER.table(RESULT_LADDER.newest), results.steps)
    try:
        rest = msgspec.msgpack.encode(results.rest)
    except (OverflowError, UnicodeEncodeError) as error:
        raise Invalid(f"what models said cannot be written: {error}") from error
    return pack(RESULTS, RESULT_LADDER.newest, [text, numbers, rest])


def decode_results(data: bytes) -> Results:
    """Return what a batch holds; raises Invalid, BatchTooNew and BatchTooOld."""
    version, sections = unpack(data, RESULTS, RESULT_LADDER.newest)
    RESULT_LADDER.check(version)
    if len(sections) != 3:
        raise Invalid("a batch of results has three sections")
    text, numbers, rest = sections
    steps = RESULT_LADDER.raised(version, read_columns(RESULT_LADDER.table(version), text, numbers))
    try:
        found: Rest = msgspec.msgpack.decode(rest, type=Rest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"what models said does not decode: {error}") from error
    items = len(found.stretches) + len(found.said) + sum(len(part.tiles) for part in found.maps) + len(found.maps)
    if items > MAX_ROWS:
        raise Invalid(f"{items} results, at most {MAX_ROWS} are read")
    return Results(steps, found)


def rounded(name: str, value: Any) -> Any:
    """Return a value of a step as it is told."""
    places = STEP_DECIMALS.get(name)
    return value if places is None else round(value, places) + 0.0
