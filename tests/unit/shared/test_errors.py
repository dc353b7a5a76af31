"""The error tree: codes are stable and unique, every error has a status."""

from __future__ import annotations

import pytest

from shared import errors
from shared.errors import OutpostError, RateLimited, SchemaTooNew, StoreError

pytestmark = pytest.mark.unit


def tree(root: type[OutpostError]) -> list[type[OutpostError]]:
    return [root] + [
        leaf for child in root.__subclasses__() for leaf in tree(child) if leaf.__module__ == errors.__name__
    ]


def test_each_error_has_a_code_of_its_own_and_a_status() -> None:
    codes = [error.code for error in tree(OutpostError)]
    assert len(set(codes)) == len(codes)
    assert all(400 <= error.http_status < 600 for error in tree(OutpostError))


def test_each_error_is_drawn_in_the_tree_at_the_top_of_the_file() -> None:
    assert errors.__doc__ is not None
    drawn = {line.split()[0] for line in errors.__doc__.splitlines() if line.strip()}
    assert {error.__name__ for error in tree(OutpostError)} <= drawn


def test_the_codes_that_clients_branch_on_are_these() -> None:
    found = {error.code: error.http_status for error in tree(OutpostError)}
    fixed = {
        "not_authenticated": 401,
        "forbidden": 403,
        "rate_limited": 429,
        "not_found": 404,
        "conflict": 409,
        "invalid": 400,
        "too_large": 413,
        "store_full": 507,
    }
    assert fixed.items() <= found.items()


def test_the_detail_is_the_message() -> None:
    error = StoreError("the disk is gone")
    assert error.detail == str(error) == "the disk is gone"
    assert OutpostError().detail == ""


def test_what_a_caller_needs_is_an_attribute() -> None:
    too_new = SchemaTooNew(found=9, known=3)
    assert (too_new.found, too_new.known) == (9, 3)
    assert "9" in too_new.detail
    assert RateLimited("slow down", 2.5).retry_after_s == 2.5
