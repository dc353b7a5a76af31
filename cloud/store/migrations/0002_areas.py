"""Corridors, and zones as geometries beside their GeoJSON."""

from __future__ import annotations

import psycopg
from alembic import op

from cloud.store.migrate import run_sql
from shared.wire.geojson import wkb_of

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run the SQL file beside this one, then give every zone its geometry, made as on every later write."""
    run_sql(__file__)
    connection = op.get_bind().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    with connection.cursor() as cursor:
        for pk, geometry in connection.execute("SELECT pk, geometry FROM zones").fetchall():
            cursor.execute("UPDATE zones SET geom = ST_GeomFromWKB(%s, 4326) WHERE pk = %s", (wkb_of(geometry), pk))
