"""How a program of either home reads its configuration.

One TOML file of tables, ``[section]``; every key of a section is also the variable ``OUTPOST_SECTION_KEY``, which goes
before the file; a key that the program does not know is an error. Under development a file ``.env`` in the working
folder adds variables that the environment does not set.
"""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_origin

import msgspec

from shared.errors import ConfigError

PREFIX: Final = "OUTPOST_"
MODELS: Final = ("hmm", "bbmm", "habitat", "forecast", "corridor")
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

T = TypeVar("T", bound=msgspec.Struct)


def read(
    kind: type[T],
    path: Path | None,
    default: Path,
    environment: Mapping[str, str],
    *,
    hint: str = "",
    aliases: Mapping[str, str] | None = None,
) -> T:
    """Read ``path`` (or ``default``, if there is such a file) into ``kind``, the environment over it.

    ``kind`` is a struct of structs, one a table; its other fields come from the file alone. ``hint`` tells how to make
    a file that is missing, with ``{path}`` in the place of its path. ``aliases`` maps variables that have a name of
    their own to ``section.key``; our own name goes before it.
    Raises ConfigError.
    """
    where = default if path is None else path
    raw: dict[str, Any] = {}
    try:
        raw = tomllib.loads(where.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if path is not None:
            raise ConfigError(f"{where}: no such file{'; ' if hint else ''}{hint.format(path=where)}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{where}: {error}") from error
    _overlay(raw, kind, environment, {} if aliases is None else aliases)
    try:
        return msgspec.convert(raw, kind, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from error


def environment(folder: Path | None = None) -> dict[str, str]:
    """Return the process's variables and, where they say nothing, those of ``.env`` in the working folder."""
    file = (Path() if folder is None else folder) / ".env"
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):  # some keep their virtual environment in a folder of this name
        return dict(os.environ)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    return {**_variables(text, file), **os.environ}


def check_port(name: str, port: int) -> None:
    """Raise ConfigError unless ``port`` is one; 0 takes a free one."""
    if not 0 <= port <= 65_535:
        raise ConfigError(f"{name}: there is no port {port}")


def check_models(forced: Mapping[str, int], publishers: Sequence[str]) -> None:
    """Raise ConfigError unless ``models.forced`` and ``models.publishers`` say what they should."""
    unknown = sorted(set(forced) - set(MODELS))
    if unknown:
        raise ConfigError(f"models.forced: there is no model {unknown[0]}; there are {', '.join(MODELS)}")
    if any(version < 1 for version in forced.values()):
        raise ConfigError("models.forced: versions are counted from 1")
    for key in publishers:
        if len(key) != 64 or any(digit not in "0123456789abcdef" for digit in key):
            raise ConfigError(f"models.publishers: {key!r} is no public key; `outpost-models key FILE` makes one")


_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PROCESS: Final = secrets.token_hex(16)


def boot_id() -> str:
    """Return the name of this boot of the machine, within which its monotonic clock counts.

    A unit whose sandbox hides the kernel's settings is told by systemd. Where nobody tells, it is that of the process.
    """
    told = os.environ.get("OUTPOST_BOOT_ID", "")
    if not told:
        try:
            told = _BOOT_ID.read_text(encoding="ascii")
        except OSError:
            told = _PROCESS
    return told.strip().replace("-", "")


def own_hosts(machine: str, configured: Sequence[str]) -> tuple[str, ...]:
    """Return the names that a home answers to: those of the ``machine`` itself, and those that are configured."""
    name = machine.lower()
    return tuple(dict.fromkeys((name, f"{name.partition('.')[0]}.local", *(each.lower() for each in configured))))


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"expected a path, got {value!r}")


def _overlay(
    raw: dict[str, Any], kind: type[msgspec.Struct], environment: Mapping[str, str], aliases: Mapping[str, str]
) -> None:
    names: dict[str, list[str]] = {}
    for alias, target in aliases.items():
        names.setdefault(target, []).append(alias)
    for section in msgspec.structs.fields(kind):
        if not (isinstance(section.type, type) and issubclass(section.type, msgspec.Struct)):
            continue
        for field in msgspec.structs.fields(section.type):
            key = f"{section.encode_name}.{field.encode_name}"
            own = PREFIX + key.replace(".", "_").upper()
            variable = next((name for name in (own, *names.get(key, ())) if name in environment), None)
            if variable is None:
                continue
            table = raw.setdefault(section.encode_name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{section.encode_name}: must be a table, [{section.encode_name}]")
            table[field.encode_name] = _value(field.type, environment[variable])


def _value(kind: Any, text: str) -> Any:
    """Return what a variable says; a list of words is separated by commas, a table and a list of tables are JSON."""
    if get_origin(kind) is tuple and get_args(kind)[0] is str:
        return [part.strip() for part in text.split(",") if part.strip()]
    if get_origin(kind) in (dict, tuple):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            what = "a table" if get_origin(kind) is dict else "a list of tables"
            raise ConfigError(f"expected {what} as JSON, got {text!r}") from error
    return text


def _variables(text: str, file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip().removeprefix("export ").lstrip()
        if not entry or entry.startswith("#"):
            continue
        name, sign, value = entry.partition("=")
        name, value = name.strip(), value.strip()
        if not sign or not name.isidentifier():
            raise ConfigError(f"{file}, line {number}: expected NAME=value")
        quote = value[:1]
        if quote and quote in "'\"":
            value, closing, rest = value[1:].partition(quote)
            if not closing or (rest.strip() and not rest.lstrip().startswith("#")):
                raise ConfigError(f"{file}, line {number}: the quote does not end the value")
        else:
            value = value.partition(" #")[0].rstrip()
        found[name] = value
    return found
