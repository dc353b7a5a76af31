"""The body that asks for a report."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.wire.public.fields import Name


class ReportIn(Struct, kw_only=True):
    """What a report shall be about, of which period and species, and in which format."""

    subject: Literal["movement", "corridors", "conflicts", "species", "habitat"]
    format: Literal["pdf", "xlsx", "json"] = "pdf"
    since: Annotated[str | int, Meta(description="From this instant or day on.")]
    until: Annotated[str | int, Meta(description="Before this instant, or to the end of this day.")]
    species: Name | None = None
    language: Annotated[
        Literal["en", "sw", "fr"], Meta(description="Of the labels of a PDF or a spreadsheet; JSON is the same in all.")
    ] = "en"
