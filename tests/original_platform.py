"""A database as the original platform has it, in words of our own: its tables and columns, and its odd values."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

_STAMPS = "created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now()"
_KEY = "id uuid PRIMARY KEY"
SCHEMA = f"""
CREATE TABLE users (
  {_KEY}, password varchar(128) NOT NULL, last_login timestamptz, is_superuser boolean NOT NULL DEFAULT false,
  email varchar(255) NOT NULL UNIQUE, name varchar(255) NOT NULL, phone varchar(20), role varchar(20) NOT NULL,
  organization varchar(255), device_id varchar(255), is_active boolean NOT NULL DEFAULT true,
  is_staff boolean NOT NULL DEFAULT false, is_email_verified boolean NOT NULL DEFAULT false,
  is_phone_verified boolean NOT NULL DEFAULT false, version integer NOT NULL DEFAULT 1, {_STAMPS});
CREATE TABLE user_sessions ({_KEY}, user_id uuid REFERENCES users, refresh_token varchar(500) NOT NULL);
CREATE TABLE otp_verifications ({_KEY}, phone varchar(20), otp_code varchar(6) NOT NULL);
CREATE TABLE django_migrations (id bigint PRIMARY KEY, app varchar(255) NOT NULL);
CREATE TABLE animals (
  {_KEY}, name varchar(255) NOT NULL, species varchar(255) NOT NULL, collar_id varchar(255) UNIQUE,
  status varchar(50) NOT NULL, gender varchar(20), age integer, weight double precision,
  health_status varchar(50) NOT NULL, notes text NOT NULL DEFAULT '', version integer NOT NULL DEFAULT 1,
  synced boolean NOT NULL DEFAULT false, created_by_id uuid REFERENCES users, {_STAMPS});
CREATE TABLE tracking (
  {_KEY}, local_id uuid NOT NULL UNIQUE, collar_id varchar(255), timestamp timestamptz NOT NULL,
  lat double precision NOT NULL, lon double precision NOT NULL, altitude double precision, speed_kmh double precision,
  directional_angle double precision, battery_level varchar(50), signal_strength varchar(50),
  temperature double precision, activity_type varchar(50), source varchar(50) NOT NULL,
  notes text NOT NULL DEFAULT '', version integer NOT NULL DEFAULT 1, synced boolean NOT NULL DEFAULT false,
  animal_id uuid NOT NULL REFERENCES animals, uploaded_by_id uuid REFERENCES users, {_STAMPS});
CREATE TABLE observations (
  {_KEY}, local_id uuid NOT NULL UNIQUE, observation_type varchar(50) NOT NULL, description text NOT NULL,
  lat double precision NOT NULL, lon double precision NOT NULL, timestamp timestamptz NOT NULL,
  photo_url varchar(500) NOT NULL DEFAULT '', animal_id uuid REFERENCES animals, observer_id uuid REFERENCES users,
  {_STAMPS});
CREATE TABLE conflict_zones (
  {_KEY}, name varchar(255) NOT NULL, zone_type varchar(50) NOT NULL, risk_level varchar(20) NOT NULL,
  geometry jsonb NOT NULL, buffer_distance_km double precision NOT NULL, description text NOT NULL DEFAULT '',
  is_active boolean NOT NULL DEFAULT true, {_STAMPS});
CREATE TABLE corridors (
  {_KEY}, name varchar(255) NOT NULL, description text NOT NULL DEFAULT '', species varchar(255) NOT NULL,
  status varchar(50) NOT NULL, start_point jsonb NOT NULL, end_point jsonb NOT NULL, path jsonb,
  optimization_score double precision, optimization_data jsonb, created_by_id uuid REFERENCES users, {_STAMPS});
CREATE TABLE wildlife_alerts (
  {_KEY}, alert_type varchar(50) NOT NULL, severity varchar(20) NOT NULL, status varchar(20) NOT NULL,
  title varchar(255) NOT NULL, message text NOT NULL, latitude double precision NOT NULL,
  longitude double precision NOT NULL, detected_at timestamptz NOT NULL, acknowledged_at timestamptz,
  resolved_at timestamptz, metadata jsonb NOT NULL DEFAULT '{{}}', animal_id uuid NOT NULL REFERENCES animals,
  conflict_zone_id uuid REFERENCES conflict_zones, acknowledged_by_id uuid REFERENCES users, {_STAMPS});
CREATE TABLE predictions (
  {_KEY}, prediction_type varchar(20) NOT NULL, input_data jsonb NOT NULL DEFAULT '{{}}',
  results jsonb NOT NULL DEFAULT '{{}}', confidence double precision, model_version varchar(50),
  created_at timestamptz NOT NULL DEFAULT now(), animal_id uuid REFERENCES animals,
  created_by_id uuid REFERENCES users);
CREATE TABLE rangers_rangerteam (
  {_KEY}, name varchar(100) NOT NULL, description text NOT NULL DEFAULT '', is_active boolean NOT NULL DEFAULT true,
  {_STAMPS});
CREATE TABLE rangers_ranger (
  {_KEY}, badge_number varchar(50) NOT NULL UNIQUE, emergency_contact varchar(20) NOT NULL DEFAULT '',
  current_status varchar(20) NOT NULL DEFAULT 'off_duty', last_active timestamptz,
  device_id varchar(100) NOT NULL DEFAULT '', team_id uuid REFERENCES rangers_rangerteam,
  user_id uuid NOT NULL UNIQUE REFERENCES users, {_STAMPS});
CREATE TABLE rangers_rangertracking (
  {_KEY}, lat double precision NOT NULL, lon double precision NOT NULL, altitude double precision,
  accuracy double precision, speed_kmh double precision, directional_angle double precision,
  activity_type varchar(20) NOT NULL DEFAULT 'patrolling', battery_level varchar(50) NOT NULL DEFAULT '',
  signal_strength varchar(50) NOT NULL DEFAULT '', timestamp timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), ranger_id uuid NOT NULL REFERENCES rangers_ranger);
CREATE TABLE rangers_patrollog (
  {_KEY}, log_type varchar(20) NOT NULL, priority varchar(10) NOT NULL DEFAULT 'low', title varchar(200) NOT NULL,
  description text NOT NULL DEFAULT '', lat double precision NOT NULL, lon double precision NOT NULL,
  photo_url varchar(500) NOT NULL DEFAULT '', notes text NOT NULL DEFAULT '',
  is_resolved boolean NOT NULL DEFAULT false, resolved_at timestamptz, timestamp timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(), animal_id uuid REFERENCES animals,
  ranger_id uuid NOT NULL REFERENCES rangers_ranger, resolved_by_id uuid REFERENCES users,
  team_id uuid REFERENCES rangers_rangerteam);
CREATE TABLE rangers_patrolroute (
  {_KEY}, name varchar(200) NOT NULL, description text NOT NULL DEFAULT '', waypoints jsonb NOT NULL,
  estimated_duration_hours double precision NOT NULL, scheduled_start timestamptz NOT NULL,
  scheduled_end timestamptz NOT NULL, actual_start timestamptz, actual_end timestamptz,
  status varchar(20) NOT NULL DEFAULT 'planned', created_by_id uuid REFERENCES users,
  team_id uuid NOT NULL REFERENCES rangers_rangerteam, {_STAMPS});
CREATE TABLE rangers_patrolroute_assigned_rangers (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, patrolroute_id uuid NOT NULL REFERENCES rangers_patrolroute,
  ranger_id uuid NOT NULL REFERENCES rangers_ranger);
CREATE TABLE reports (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text);
"""
BEGAN = datetime(2025, 11, 1, 6, 0, tzinfo=UTC)


def key(word: str) -> str:
    """Return the id of what tests call ``word``."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, word))


class OriginalDatabase:
    """The original's database at ``url``, to be filled."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SCHEMA.encode())

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []

    def add(self, table: str, word: str, **columns: Any) -> str:
        """Enter a row that tests call ``word`` and return its id."""
        row = {"id": key(word), **columns}
        values = [json.dumps(value) if isinstance(value, dict | list) else value for value in row.values()]
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})".encode(), values
            )
        return str(row["id"])

    def user(self, word: str, **said: Any) -> str:
        """Enter a person."""
        return self.add(
            "users", word,
            **{
                "email": f"{word}@Example.org", "name": word, "role": "ranger", "password": f"pbkdf2$secret-{word}",
                **said,
            },
        )  # fmt: skip

    def animal(self, word: str, **said: Any) -> str:
        """Enter an animal."""
        return self.add(
            "animals", word,
            **{"name": word, "species": "Elephant", "status": "active", "health_status": "healthy", **said},
        )  # fmt: skip

    def position(self, word: str, animal: str, minutes: float, **said: Any) -> str:
        """Enter a position."""
        at = BEGAN + timedelta(minutes=minutes)
        return self.add(
            "tracking", word,
            **{
                "local_id": key(f"local {word}"), "animal_id": key(animal), "timestamp": at,
                "lat": -2.5 + minutes / 1e4, "lon": 37.5, "source": "gps", "created_at": at + timedelta(seconds=9),
                **said,
            },
        )  # fmt: skip
