"""``outpost-models``: train, evaluate, update and verify models. Imports of a model wait until it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Final

import msgspec
import typer

from models import artifact
from shared.console import console, errors, print_facts, print_json, progress_bar, run_program
from shared.errors import Invalid, ModelUnavailable
from shared.wire.manifests import sign_manifest
from shared.wire.signatures import new_key

#: Every model of the house; not all of them are here yet.
MODELS: Final = ("hmm", "bbmm", "habitat", "forecast", "corridor")

cli = typer.Typer(name="outpost-models", no_args_is_help=True, pretty_exceptions_enable=False)

Names = Annotated[list[str] | None, typer.Argument(help=f"Models: {', '.join(MODELS)}. Default: those that are here.")]
Data = Annotated[Path, typer.Option("--data", help="The folder of track files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Folder = Annotated[Path, typer.Option("--artifacts", help="The folder of artefacts.")]


@cli.callback(invoke_without_command=True)
def root(
    is_version_asked: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Train, evaluate, update and verify models."""
    if is_version_asked:
        typer.echo(version("outpost"))


@cli.command()
def evaluate(
    data: Data,
    models: Names = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="The folder of reference results. Default: DATA/../reference.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder for JSON of each algorithm, of models that have several.")
    ] = None,
    is_written: Annotated[
        bool, typer.Option("--write", help="Put the tables into the model's README, between its marks.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure models on real tracks, beside reference results."""
    _check_folder(data)
    found = {}
    for name in _chosen(models, "evaluate"):
        module = _module(name, "evaluate")
        with progress_bar(name) as told:
            knows = {"progress": told} if "progress" in inspect.signature(module.evaluate).parameters else {}
            result = module.evaluate(data, reference or data.parent / "reference", **knows)
        found[name] = msgspec.to_builtins(result)
        if out is not None and hasattr(module, "write"):
            module.write(result, out)
        if is_written:
            _write_tables(name, module.report(result) if hasattr(module, "report") else _indented(result))
        if not as_json:
            text = module.report(result) if hasattr(module, "report") else _indented(result)
            console.print(f"{name}\n\n{text}\n", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        print_json(found)


@cli.command()
def train(data: Data, models: Names = None, folder: Folder = artifact.PACKAGED, as_json: AsJson = False) -> None:
    """Train models on real tracks and write their artefacts."""
    _check_folder(data)
    written = {
        name: [f"{made.model}/{made.version}/{made.name}" for made in _module(name, "train").train(data, folder)]
        for name in _chosen(models, "train")
    }
    if as_json:
        print_json(written)
        return
    for name, titles in written.items():
        console.print(f"{name}: wrote {', '.join(titles)}", highlight=False, markup=False)


@cli.command()
def update(data: Data, models: Names = None, folder: Folder = artifact.PACKAGED, as_json: AsJson = False) -> None:
    """Fine-tune models on recent tracks; a new version is written only where held-out skill rises."""
    _check_folder(data)
    found = {
        name: msgspec.to_builtins(_module(name, "update").update(data, folder)) for name in _chosen(models, "update")
    }
    if as_json:
        print_json(found)
        return
    for name, facts in found.items():
        console.print(name, highlight=False, markup=False)
        print_facts(facts, as_json=False)


@cli.command()
def verify(models: Names = None, folder: Folder = artifact.PACKAGED, as_json: AsJson = False) -> None:
    """Check every artefact against its manifest; exits 1 where one is altered or a model has none."""
    chosen = _known(models) if models else [name for name in MODELS if artifact.versions(folder, name)]
    if not chosen:
        raise ModelUnavailable(f"no artefacts in {folder}")
    verified: list[dict[str, Any]] = []
    for name in chosen:
        before = len(verified)
        for number in artifact.versions(folder, name):
            for path in sorted((folder / name / str(number)).glob("*.json")):
                manifest = artifact.load(folder, name, number, path.stem).manifest
                verified.append({"artifact": f"{name}/{number}/{path.stem}", "sha256": manifest.sha256})
        if len(verified) == before:
            raise ModelUnavailable(f"{name} has no artefact in {folder}")
    if as_json:
        print_json(verified)
        return
    for one in verified:
        console.print(f"{one['artifact']}: {one['sha256']}", highlight=False, markup=False, soft_wrap=True)


@cli.command()
def key(
    file: Annotated[Path, typer.Argument(help="Where the private key is written; nothing is overwritten.")],
    as_json: AsJson = False,
) -> None:
    """Make a key to publish models with: the file stays with whoever publishes, homes are told the public key."""
    seed, public = new_key()
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as written:
            written.write(seed.hex() + "\n")
    except OSError as error:
        raise Invalid(f"{file}: {error.strerror}: a key is never written over") from error
    print_facts({"public_key": public.hex(), "file": str(file)}, as_json=as_json)


@cli.command()
def sign(
    manifest: Annotated[Path, typer.Argument(help="The manifest, NAME.json, with NAME.bin beside it.")],
    key_file: Annotated[Path, typer.Option("--key", help="The file that `outpost-models key` wrote.")],
) -> None:
    """Check a model and print what `POST /api/v1/models/` takes: its manifest, signed."""
    try:
        text = manifest.read_text(encoding="utf-8")
        data = manifest.with_suffix(".bin").read_bytes()
        seed = bytes.fromhex(key_file.read_text(encoding="ascii").strip())
    except OSError as error:
        raise Invalid(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise Invalid(f"{key_file}: a key is 64 hex digits, as `outpost-models key` writes it") from error
    if len(seed) != 32:
        raise Invalid(f"{key_file}: a key is 64 hex digits, as `outpost-models key` writes it")
    from models.live.usable import check_usable, read_manifest

    check_usable(read_manifest(text), data)
    public, signature = sign_manifest(seed, text)
    print_json({"manifest": text, "key": public, "signature": signature})


def main() -> None:
    """Run the program."""
    run_program(cli)


def _write_tables(name: str, text: str) -> None:
    readme = Path(__file__).parent / name / "README.md"
    first, last = f"<!-- tables: written by `outpost-models evaluate {name} --write` -->", "<!-- end of tables -->"
    before, mark, rest = readme.read_text(encoding="utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not mark or not end:
        raise Invalid(f"{readme}: it has no place for tables; put {first} and {last} into it")
    readme.write_text(f"{before}{mark}\n\n{text}\n\n{end}{after}", encoding="utf-8")
    errors.print(f"written: {readme}", highlight=False, markup=False)


def _indented(result: object) -> str:
    return msgspec.json.format(msgspec.json.encode(result), indent=2).decode()


def _check_folder(data: Path) -> None:
    if not data.is_dir():
        raise Invalid(f"{data}: no such folder")


def _known(models: list[str]) -> list[str]:
    for name in models:
        if name not in MODELS:
            raise Invalid(f"{name}: no such model; there are {', '.join(MODELS)}")
    return list(dict.fromkeys(models))


def _chosen(models: list[str] | None, part: str) -> list[str]:
    return _known(models) if models else [name for name in MODELS if _is_here(name, part)]


def _is_here(name: str, part: str) -> bool:
    if importlib.util.find_spec(f"models.{name}") is None:
        return False
    return importlib.util.find_spec(f"models.{name}.{part}") is not None


def _module(name: str, part: str) -> ModuleType:
    if not _is_here(name, part):
        raise ModelUnavailable(f"{name}: this version cannot {part} it")
    try:
        return importlib.import_module(f"models.{name}.{part}")
    except ModuleNotFoundError as error:
        raise ModelUnavailable(
            f"{name}: needs {error.name}, which a station has not: install outpost[train]"
        ) from error
