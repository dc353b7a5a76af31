"""/api/v1/users, /api/v1/api-keys, /api/v1/audit: other people's accounts, programs' keys, and who did what."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, delete, get, patch, post
from litestar.di import Dependency
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidationMarker

from shared.api.access import AccountsGiven, AuditTrail, CallerGiven
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.paging import PAGING, WHOLE_PAGING, Paged, PagingGiven
from shared.store import Page
from shared.wire.public.accounts import (
    ApiKeyIn,
    ApiKeyOut,
    AuditLineOut,
    AuditOut,
    UserIn,
    UserMadeOut,
    UserOut,
    UserPatch,
)

TrailGiven = Annotated[AuditTrail, Dependency(kind="named"), SkipValidationMarker()]


class Users(Controller):
    """People with accounts."""

    path = "/users"
    tags = ("users",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List accounts", responses=documented(404))
    async def list_users(
        self,
        accounts: AccountsGiven,
        paging: PagingGiven,
        search: Annotated[str | None, QueryParameter(description="Text to find in name or address.")] = None,
    ) -> Paged[UserOut]:
        """List accounts by address."""
        found = await accounts.users(search)
        return paging.of(Page(len(found), found[paging.offset : paging.offset + paging.limit]), UserOut.of)

    @post("/", summary="Make an account", dto=JsonBody, responses=documented(403, 409))
    async def add_user(self, accounts: AccountsGiven, caller: CallerGiven, data: JSONBody[UserIn]) -> UserMadeOut:
        """Make an account; its secret and recovery codes are shown only in this answer. Managers invite rangers."""
        user, seed, codes = await accounts.add_user(
            caller.principal, email=data.email, name=data.name, role=data.role, password=data.password,
            stations=tuple(data.stations), phone=data.phone, organization=data.organization,
        )  # fmt: skip
        return UserMadeOut.of(user, seed, codes, accounts.name)

    @get("/{user_id:str}", summary="Read an account", responses=documented(404))
    async def user(self, accounts: AccountsGiven, user_id: FromPath[str]) -> UserOut:
        """Return one account."""
        return UserOut.of(await accounts.user(user_id))

    @patch("/{user_id:str}", summary="Change an account", dto=JsonBody, responses=documented(403, 404, 409))
    async def patch_user(
        self, accounts: AccountsGiven, caller: CallerGiven, user_id: FromPath[str], data: JSONBody[UserPatch]
    ) -> UserOut:
        """Change role, stations, name or standing."""
        return UserOut.of(await accounts.change_user(caller.principal, user_id, data.columns()))

    @post("/{user_id:str}/revoke", summary="Shut out at once", status_code=200, responses=documented(404, 409))
    async def revoke(self, accounts: AccountsGiven, caller: CallerGiven, user_id: FromPath[str]) -> UserOut:
        """End every session of an account and let it in no more at this home, whatever a roster says."""
        return UserOut.of(await accounts.revoke(caller.principal, user_id))

    @post("/{user_id:str}/restore", summary="Let in again", status_code=200, responses=documented(404))
    async def restore(self, accounts: AccountsGiven, caller: CallerGiven, user_id: FromPath[str]) -> UserOut:
        """Take back that an account was shut out at this home."""
        return UserOut.of(await accounts.revoke(caller.principal, user_id, is_revoked=False))


class ApiKeys(Controller):
    """Keys of gateways and programs."""

    path = "/api-keys"
    tags = ("users",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List API keys", responses=documented(404))
    async def list_keys(self, accounts: AccountsGiven, paging: PagingGiven) -> Paged[ApiKeyOut]:
        """List keys without their secrets, newest first."""
        found = await accounts.keys()
        return paging.of(Page(len(found), found[paging.offset : paging.offset + paging.limit]), ApiKeyOut.of)

    @post("/", summary="Make an API key", dto=JsonBody, responses=documented(403))
    async def make_key(self, accounts: AccountsGiven, caller: CallerGiven, data: JSONBody[ApiKeyIn]) -> ApiKeyOut:
        """Make a key of 90 days; its text is in this answer and nowhere else."""
        key, secret = await accounts.make_key(
            caller.principal, name=data.name, role=data.role, scopes=data.scopes, stations=tuple(data.stations)
        )
        return ApiKeyOut.of(key, secret)

    @post("/{key_id:str}/rotate", summary="Rotate an API key", status_code=200, responses=documented(404))
    async def rotate_key(self, accounts: AccountsGiven, caller: CallerGiven, key_id: FromPath[str]) -> ApiKeyOut:
        """Give the key another secret for 90 days; the former one is good for seven days more."""
        key, secret = await accounts.rotate_key(caller.principal, key_id)
        return ApiKeyOut.of(key, secret)

    @delete("/{key_id:str}", summary="Take an API key away", responses=documented(404))
    async def revoke_key(self, accounts: AccountsGiven, caller: CallerGiven, key_id: FromPath[str]) -> None:
        """Refuse the key from now on."""
        await accounts.revoke_key(caller.principal, key_id)


class Audit(Controller):
    """Who read and changed what."""

    path = "/audit"
    tags = ("users",)
    dependencies = WHOLE_PAGING
    return_dto = None

    @get("/", summary="Read the audit log", responses=documented())
    async def lines(self, accounts: AccountsGiven, trail: TrailGiven, paging: PagingGiven) -> AuditOut:
        """Return lines of the log, newest first, and whether its chain is whole."""
        await trail.flush()
        count, lines, broken_at = await accounts.audit_page(paging.offset, paging.limit)
        return AuditOut(count=count, broken_at=broken_at, results=[AuditLineOut.of(line) for line in lines])
