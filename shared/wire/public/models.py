"""Models of a home in public form, and the bodies that bring, choose and take them back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.shelf import MAX_MANIFEST_BYTES, Artefact, Change
from shared.wire.manifests import KEY_DIGITS

ModelWord = Literal["hmm", "bbmm", "habitat", "forecast", "corridor"]
FileName = Annotated[str, Meta(min_length=1, max_length=100, description="A file of the model, such as `elephant`.")]
Station = Annotated[
    str, Meta(max_length=200, description="The station that it is chosen for; empty: every one, and this home.")
]


class ModelOut(Struct, frozen=True, kw_only=True):
    """One version of a model file.

    ``species`` is empty for a model of every species; ``stations`` are those that it was chosen for, "" is everywhere.
    """

    model: str
    name: str
    version: int
    sha256: str
    size: int
    species: list[str]
    metrics: Mapping[str, float]
    trained_on: list[str]
    licence: str
    origin: Literal["program", "brought"]
    is_active: bool
    is_forced: bool
    stations: list[str]
    signed_by: str | None
    brought_by: str | None
    brought_at: datetime | None
    problem: str | None

    @classmethod
    def of(cls, found: Artefact) -> ModelOut:
        """Return the public form of an artefact."""
        return cls(
            model=found.model, name=found.name, version=found.version, sha256=found.sha256, size=found.size,
            species=list(found.species), metrics=found.metrics, trained_on=list(found.datasets), licence=found.licence,
            origin="program" if found.is_packaged else "brought", is_active=found.is_active,
            is_forced=found.is_forced, stations=list(found.chosen_at), signed_by=found.signed_by,
            brought_by=found.brought_by, brought_at=found.brought_at, problem=found.problem,
        )  # fmt: skip


class ModelIn(Struct, frozen=True, kw_only=True):
    """A model whose file lies among the blobs: the text of its manifest as it was signed, by whom, and the signature.

    `outpost-models sign` prints this body.
    """

    manifest: Annotated[str, Meta(min_length=2, max_length=MAX_MANIFEST_BYTES)]
    key: Annotated[str, Meta(pattern=f"^[0-9a-f]{{{KEY_DIGITS}}}$", description="Ed25519 public key, hex digits.")]
    signature: Annotated[str, Meta(pattern="^[0-9a-f]{128}$", description="Ed25519 signature, hex digits.")]


class ActivateIn(Struct, frozen=True, kw_only=True):
    """Which version of a model is to serve; without ``name`` that of each of its files that has this version."""

    model: ModelWord
    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    name: FileName | None = None
    station: Station = ""


class RollBackIn(Struct, frozen=True, kw_only=True):
    """Which choice is to be taken back; without ``name`` that of each file of the model that one stands of."""

    model: ModelWord
    name: FileName | None = None
    station: Station = ""


class ChangeOut(Struct, frozen=True, kw_only=True):
    """What a choice did: versions before and after it, 0 for the newest that came with the program."""

    model: str
    name: str
    station: str
    before: int
    after: int

    @classmethod
    def of(cls, made: Change) -> ChangeOut:
        """Return the public form of a change."""
        return cls(model=made.model, name=made.name, station=made.station, before=made.before, after=made.after)
