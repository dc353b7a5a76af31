"""The programs' commands as an operator types them, each run to its end in this process."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from cloud.cli import main as cloud_main
from edge.cli import main as station_main


class Ended(NamedTuple):
    """How a command ended and what it said."""

    code: int
    stdout: str
    stderr: str


class Program:
    """A program by its name and entry; ``always`` stands behind every command's own arguments."""

    def __init__(self, name: str, main: Callable[[], None], *always: object) -> None:
        self._name = name
        self._main = main
        self._always = always

    def run(self, *arguments: object, code: int = 0, stdin: str = "") -> Ended:
        """Run a command; its exit code must be ``code``, any exception but an exit fails the test."""
        said, complained = io.StringIO(), io.StringIO()
        before = sys.argv, sys.stdin
        sys.argv, sys.stdin = [self._name, *map(str, (*arguments, *self._always))], io.StringIO(stdin)
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
                try:
                    self._main()
                    ended = 0
                except SystemExit as leaving:
                    ended = int(leaving.code or 0)
        finally:
            sys.argv, sys.stdin = before
        assert ended == code, (said.getvalue(), complained.getvalue())
        return Ended(ended, said.getvalue(), complained.getvalue())

    def facts(self, *arguments: object, code: int = 0, stdin: str = "") -> Any:
        """Return what a command says with ``--json``."""
        return json.loads(self.run(*arguments, "--json", code=code, stdin=stdin).stdout)

    def refusal(self, *arguments: object) -> str:
        """Return the one line in which a command says why it cannot; beside it, it says nothing."""
        ended = self.run(*arguments, code=1)
        assert ended.stdout == ""
        (line,) = ended.stderr.splitlines()
        return line


STATION: Final = Program("outpost-station", station_main)
CLOUD: Final = Program("outpost-cloud", cloud_main)


class StationFolder:
    """A station in a folder, made by ``init``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "station.toml"
        self.key = folder / "keys" / "station.key"
        self.data = folder / "data"

    def init(self) -> str:
        """Make it, and return what the command says."""
        return STATION.run("init", "--config", self.config, "--data-dir", self.data, "--key-file", self.key).stdout

    def tracks(self, *rows: str, name: str = "tracks.csv") -> Path:
        """Write rows of tracks into a file of the folder."""
        path = self.folder / name
        path.write_text("\n".join(("individual,timestamp,lon,lat", *rows)) + "\n", encoding="utf-8")
        return path
