"""What the filters of every list have in common."""

from __future__ import annotations

from typing import Annotated

from litestar.params import QueryParameter

Exactly = Annotated[str | None, QueryParameter(description="Only rows with exactly this value.")]
