"""Coverage-guided fuzzing of one decoder: ``python -m tests.property.fuzz NAME --seconds 600``.

It runs with atheris, which lets a fuzzer see which branches an input took. Inputs that were worth keeping are in
``--corpus``; it starts with the committed vectors. Exit code 0 means that the time passed without anything but values
and FrameErrors; otherwise the input that did it lies in the corpus' folder as ``crash-*``, and the traceback is
printed.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import tempfile
from pathlib import Path

import atheris

from firmware_bridge import codecs, framing
from tests.property import garbage


def main() -> None:
    """Fuzz one target until the time is over or something breaks."""
    parser = argparse.ArgumentParser(description="Fuzz one decoder.")
    parser.add_argument("name", choices=garbage.TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, default=None)
    chosen = parser.parse_args()
    corpus = chosen.corpus or Path(tempfile.mkdtemp(prefix=f"fuzz-{chosen.name}-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_seeds(chosen.name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    _instrument()
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={chosen.seconds}",
            "-seed=1",
            "-max_len=2048",
            "-timeout=20",
            f"-artifact_prefix={corpus}/",
            str(corpus),
        ],
        lambda data: garbage.fuzz_one(chosen.name, data),
    )
    atheris.Fuzz()


def _seeds(target: str) -> list[bytes]:
    kind, _, name = target.partition("-")
    if kind == "framing":
        return [garbage.payload_of(vector) for vector in garbage.VECTORS]
    return [
        bytes((garbage.PORTS.index(port) if port in garbage.PORTS else 0,)) + payload
        for payload, port in garbage.payloads_of(name)
    ]


def _instrument() -> None:
    """Make the branches of our own decoders visible, function by function."""
    for package in (codecs, framing):
        for found in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{found.name}")
            for owner in (module, *(value for value in vars(module).values() if isinstance(value, type))):
                for name, value in list(vars(owner).items()):
                    if (
                        callable(value)
                        and getattr(value, "__module__", "") == module.__name__
                        and hasattr(value, "__code__")
                    ):
                        setattr(owner, name, atheris.instrument_func(value))


if __name__ == "__main__":
    main()
