"""Who may see what, decided in one place.

Every read of a Store takes a ``View``, so a read that forgot to ask does not type-check. Until accounts land, a home
binds to the loopback interface only and every caller is its operator.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.errors import Forbidden

Role = Literal["admin", "conservation_manager", "ranger", "viewer"]


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks."""

    user_id: str
    role: Role


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a principal may see; made by ``view_for`` alone."""

    principal: Principal


#: The operator at the station's own keyboard, for as long as there are no accounts.
OPERATOR = Principal(user_id="operator", role="admin")


def view_for(principal: Principal) -> View:
    """Return what ``principal`` may see; raises Forbidden for a role whose precision this version cannot reduce."""
    if principal.role == "viewer":
        raise Forbidden("positions with reduced precision need accounts, which this version does not have")
    return View(principal=principal)


def seen_alike(view: View) -> str:
    """Return a key that two views share only if every answer to both is the same."""
    return view.principal.role
