"""A recording file system under the station's own SQLite, and the power cuts that follow from what it recorded.

SQLite reaches files through a table of C functions, its VFS. sqlcipher3 carries a copy of SQLite of its own, whose
``sqlite3_vfs_register`` its shared object exports: a copy of the default table, with five functions replaced, becomes
the default while a ``Recorder`` is active. The shipped code opens its files as always and notices nothing.

::

    shipped store --> SQLite --> recorder --> unix VFS --> real files
                                    |
                                  log:  Create Write Write Sync Mark("frame 1 acknowledged") Write ...

What a cut leaves of the log up to a random operation (``power_cuts``):

- bytes written before a sync of their file that began later and succeeded: all of them, always;
- bytes written since: any subset of their 512-byte sectors, some torn in the middle; the file may have grown by zeros;
- a truncation since: happened or not;
- a new file: its name is certain with its first sync; a deletion: at once if SQLite asked for it, else perhaps; the
  first sync of a new journal or WAL also syncs the directory and so settles every name in it;
- what was dirty when a sync failed stays in doubt for ever: the kernel calls those pages clean, so a later sync that
  succeeds says nothing of them;
- shared memory (the WAL index): nothing.

A torn sector keeps what stood outside the written range. SQLite relies on that (SQLITE_IOCAP_POWERSAFE_OVERWRITE, its
default on unix), and so do we: a medium that damages its neighbours cannot be trusted with anything.

Faults are injected at the same place: ``Recorder.fail`` lets the n-th write or sync of a file return an error code.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import sqlcipher3._sqlite3

SECTOR = 512

SQLITE_OK = 0
SQLITE_IOERR = 10
SQLITE_FULL = 13
SQLITE_IOERR_WRITE = SQLITE_IOERR | 3 << 8
SQLITE_IOERR_FSYNC = SQLITE_IOERR | 4 << 8
# Flags of xOpen: with CREATE, the unix VFS syncs the directory at the first sync of files of these kinds.
_OPEN_CREATE = 0x4
_OPEN_JOURNALS = 0x800 | 0x4000 | 0x80000

# --- the log ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Create:
    """``path`` now names the new file ``inode``; ``found`` is what it held where it existed before the recording."""

    inode: int
    path: str
    found: bytes | None


@dataclass(frozen=True, slots=True)
class Write:
    """``data`` was handed to the kernel."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """The file was cut to ``size`` bytes."""

    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A sync ended; it speaks for what was done to the file, perhaps to ``directory`` too, before ``begun``."""

    inode: int
    begun: int
    is_ok: bool
    directory: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """``path`` no longer names a file; for certain only where the directory was synced."""

    path: str
    is_synced: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """The test's own note, such as the number of the frame that was acknowledged here."""

    note: Any


Operation = Create | Write | Truncate | Sync | Delete | Mark


# --- recording --------------------------------------------------------------------------------------------------------


class _CVfs(ctypes.Structure):
    """``struct sqlite3_vfs``, version 3; functions we only pass on are plain pointers."""

    _fields_ = (
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        ("xOpen", ctypes.c_void_p),
        ("xDelete", ctypes.c_void_p),
        ("others", ctypes.c_void_p * 14),
    )


class _CMethods(ctypes.Structure):
    """``struct sqlite3_io_methods``, version 3."""

    _fields_ = (
        ("iVersion", ctypes.c_int),
        ("xClose", ctypes.c_void_p),
        ("xRead", ctypes.c_void_p),
        ("xWrite", ctypes.c_void_p),
        ("xTruncate", ctypes.c_void_p),
        ("xSync", ctypes.c_void_p),
        ("others", ctypes.c_void_p * 13),
    )


# A name is a void*: ctypes would turn a char* into bytes and back and lose the URI parameters that follow it in memory.
_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int)
)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_CLOSE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)

# dlopen of a library that is loaded already gives the copy in use.
_sqlite = ctypes.CDLL(sqlcipher3._sqlite3.__file__)
_sqlite.sqlite3_vfs_find.restype = ctypes.POINTER(_CVfs)
_sqlite.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
_sqlite.sqlite3_vfs_register.argtypes = [ctypes.POINTER(_CVfs), ctypes.c_int]
_sqlite.sqlite3_vfs_unregister.argtypes = [ctypes.POINTER(_CVfs)]

#: A connection may outlive its recorder, so the tables that SQLite points to are never freed.
_alive: list[Any] = []
_numbers = itertools.count(1)

FaultKind = Literal["write", "sync"]


@dataclass(slots=True)
class _Fault:
    kind: FaultKind
    suffix: str
    code: int
    skip: int
    times: int


@dataclass(slots=True)
class _OpenFile:
    inode: int
    path: str
    base: _CMethods
    is_directory_dirty: bool


class Recorder:
    """Records what SQLite does to the files below ``root``; other files are passed through unseen.

    Use it as a context manager and open connections inside. ``log`` may be read at any time. With
    ``is_sync_real=False`` a sync is recorded but not carried out: the log alone decides what a cut leaves.
    """

    def __init__(self, root: Path, *, is_sync_real: bool = False) -> None:
        self.log: list[Operation] = []
        self.errors: list[Exception] = []
        self._root = os.path.realpath(root) + os.sep
        self._is_sync_real = is_sync_real
        self._faults: list[_Fault] = []
        self._inodes: dict[str, int] = {}
        self._next_inode = itertools.count(1)
        self._open: dict[int, _OpenFile] = {}
        self._methods: dict[int, _CMethods] = {}
        self._callbacks: list[Any] = []
        self._base = _sqlite.sqlite3_vfs_find(None)
        self._vfs = _CVfs.from_buffer_copy(self._base.contents)
        self._vfs.pNext = None
        self._vfs.zName = f"recorder-{next(_numbers)}".encode()
        self._vfs.xOpen = self._callback(_OPEN, self._x_open)
        self._vfs.xDelete = self._callback(_DELETE, self._x_delete)
        self._x_close_pointer = self._callback(_CLOSE, self._x_close)
        self._x_write_pointer = self._callback(_WRITE, self._x_write)
        self._x_truncate_pointer = self._callback(_TRUNCATE, self._x_truncate)
        self._x_sync_pointer = self._callback(_SYNC, self._x_sync)
        _alive.append((self._vfs, self._callbacks, self._methods))

    def __enter__(self) -> Recorder:
        _check(_sqlite.sqlite3_vfs_register(ctypes.byref(self._vfs), 1))
        return self

    def __exit__(self, *exc: object) -> None:
        _check(_sqlite.sqlite3_vfs_register(self._base, 1))
        _check(_sqlite.sqlite3_vfs_unregister(ctypes.byref(self._vfs)))
        if self.errors:
            raise self.errors[0]

    def mark(self, note: Any) -> None:
        """Note in the log that something happened here, such as an acknowledgement."""
        self.log.append(Mark(note))

    def fail(self, kind: FaultKind, suffix: str, code: int, *, skip: int = 0, times: int = 1) -> None:
        """Let ``times`` operations on files whose path ends with ``suffix`` fail, after ``skip`` more good ones."""
        self._faults.append(_Fault(kind, suffix, code, skip, times))

    def heal(self) -> None:
        """Forget the faults that have not come yet."""
        self._faults.clear()

    def _callback(self, prototype: Any, method: Callable[..., int]) -> int:
        def guarded(*arguments: Any) -> int:
            try:
                return method(*arguments)
            except Exception as error:  # noqa: BLE001  nothing may be raised through C; __exit__ raises it
                self.errors.append(error)
                return SQLITE_IOERR

        function = prototype(guarded)
        self._callbacks.append(function)
        pointer = ctypes.cast(function, ctypes.c_void_p).value
        assert pointer is not None
        return pointer

    def _fault(self, kind: FaultKind, path: str) -> int:
        for fault in self._faults:
            if fault.kind == kind and path.endswith(fault.suffix) and fault.times:
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault.code
        return SQLITE_OK

    def _x_open(self, _vfs: int, name: int | None, file: int, flags: int, out_flags: Any) -> int:
        path = None if name is None else os.fsdecode(ctypes.string_at(name))
        is_ours = path is not None and path.startswith(self._root)
        found: bytes | None = None
        if path is not None and path in self._inodes and not Path(path).exists():
            self.log.append(
                Delete(path, is_synced=False)
            )  # removed behind SQLite's back, as a segment of the ledger is
            del self._inodes[path]
        if path is not None and is_ours and path not in self._inodes:
            with contextlib.suppress(FileNotFoundError):
                found = Path(path).read_bytes()
        base = self._base.contents
        code = int(_OPEN(base.xOpen)(ctypes.addressof(base), name, file, flags, out_flags))
        if code != SQLITE_OK or path is None or not is_ours:
            return code
        if path not in self._inodes:
            self._inodes[path] = next(self._next_inode)
            self.log.append(Create(self._inodes[path], path, found))
        slot = ctypes.c_void_p.from_address(file)
        assert slot.value is not None
        table = _CMethods.from_address(slot.value)
        if slot.value not in self._methods:
            ours = _CMethods.from_buffer_copy(table)
            ours.xClose = self._x_close_pointer
            ours.xWrite = self._x_write_pointer
            ours.xTruncate = self._x_truncate_pointer
            ours.xSync = self._x_sync_pointer
            self._methods[slot.value] = ours
        is_directory_dirty = bool(flags & _OPEN_CREATE and flags & _OPEN_JOURNALS)
        self._open[file] = _OpenFile(self._inodes[path], path, table, is_directory_dirty)
        slot.value = ctypes.addressof(self._methods[slot.value])
        return code

    def _x_delete(self, _vfs: int, name: int, is_directory_synced: int) -> int:
        base = self._base.contents
        code = int(_DELETE(base.xDelete)(ctypes.addressof(base), name, is_directory_synced))
        path = os.fsdecode(ctypes.string_at(name))
        if path.startswith(self._root) and code == SQLITE_OK:
            self.log.append(Delete(path, bool(is_directory_synced)))
            self._inodes.pop(path, None)
        return code

    def _x_close(self, file: int) -> int:
        return int(_CLOSE(self._open.pop(file).base.xClose)(file))

    def _x_write(self, file: int, data: int, size: int, offset: int) -> int:
        opened = self._open[file]
        if code := self._fault("write", opened.path):
            return code
        self.log.append(Write(opened.inode, offset, ctypes.string_at(data, size)))
        return int(_WRITE(opened.base.xWrite)(file, data, size, offset))

    def _x_truncate(self, file: int, size: int) -> int:
        opened = self._open[file]
        self.log.append(Truncate(opened.inode, size))
        return int(_TRUNCATE(opened.base.xTruncate)(file, size))

    def _x_sync(self, file: int, flags: int) -> int:
        opened = self._open[file]
        begun = len(self.log)
        code = self._fault("sync", opened.path)
        if code == SQLITE_OK and self._is_sync_real:
            code = int(_SYNC(opened.base.xSync)(file, flags))
        is_ok = code == SQLITE_OK
        directory = str(Path(opened.path).parent) if is_ok and opened.is_directory_dirty else None
        opened.is_directory_dirty &= not is_ok
        self.log.append(Sync(opened.inode, begun, is_ok, directory))
        return code


def _check(code: int) -> None:
    if code != SQLITE_OK:
        raise OSError(f"SQLite refused the recorder: code {code}")


# --- power cuts -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Pending:
    """An operation whose effect is not settled yet, or that stands behind one in the same file."""

    position: int
    operation: Write | Truncate
    state: Literal["in doubt", "spoilt", "certain"] = "in doubt"


@dataclass(slots=True)
class _Disk:
    """One file as a replay of the log knows it: what is certain, and then what was done to it since, in order."""

    certain: bytearray
    pending: list[_Pending] = field(default_factory=list)

    def sync(self, begun: int, *, is_ok: bool) -> None:
        """Settle what was done before position ``begun``, but for what a failed sync has spoilt."""
        for pending in self.pending:
            if pending.position < begun and pending.state == "in doubt":
                pending.state = "certain" if is_ok else "spoilt"
        settled = list(itertools.takewhile(lambda pending: pending.state == "certain", self.pending))
        for pending in settled:
            _apply(self.certain, pending.operation)
        del self.pending[: len(settled)]


@dataclass(frozen=True)
class CrashImage:
    """What stood on the medium after a cut before operation ``position``, and the marks set until then."""

    position: int
    notes: list[Any]
    files: dict[str, bytes]

    def write(self, root: Path, folder: Path) -> None:
        """Write the files, which were recorded below ``root``, to the same places below the new ``folder``."""
        folder.mkdir(parents=True)
        for path, content in self.files.items():
            target = folder / Path(path).relative_to(os.path.realpath(root))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def power_cuts(log: Sequence[Operation], rng: random.Random, cuts: int, *, first: int = 0) -> Iterator[CrashImage]:
    """Cut the power ``cuts`` times at random operations from ``first`` on, in their order, and say what is left."""
    disks: dict[int, _Disk] = {}
    names: dict[str, list[int | None]] = {}  # the certain state of a name, then the possible later ones
    notes: list[Any] = []
    done = 0
    for position in sorted(rng.randrange(first, len(log) + 1) for _ in range(cuts)):
        for index in range(done, position):
            _replay(log[index], index, disks, names, notes)
        done = position
        yield _image(position, disks, names, notes, rng)


def _replay(
    operation: Operation, index: int, disks: dict[int, _Disk], names: dict[str, list[int | None]], notes: list[Any]
) -> None:
    match operation:
        case Create(inode, path, found):
            disks[inode] = _Disk(bytearray(found or b""))
            if found is None:
                names.setdefault(path, [None]).append(inode)
            else:
                names[path] = [inode]
        case Write(inode) | Truncate(inode):
            disks[inode].pending.append(_Pending(index, operation))
        case Sync(inode, begun, is_ok, directory):
            disks[inode].sync(begun, is_ok=is_ok)
            for path, states in names.items() if is_ok else ():
                if inode in states:
                    names[path] = states[states.index(inode) :]
                if directory is not None and Path(path).parent == Path(directory):
                    names[path] = states[-1:]
        case Delete(path, is_synced):
            names[path] = [None] if is_synced else [*names.get(path, []), None]
        case Mark(note):
            notes.append(note)


def _image(
    position: int, disks: dict[int, _Disk], names: dict[str, list[int | None]], notes: list[Any], rng: random.Random
) -> CrashImage:
    survival = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    files = {}
    for path, states in names.items():
        inode = rng.choice(states)
        if inode is not None:
            files[path] = _survivors(disks[inode], survival, rng)
    return CrashImage(position, list(notes), files)


def _survivors(disk: _Disk, survival: float, rng: random.Random) -> bytes:
    content = bytearray(disk.certain)
    length = 0
    for pending in disk.pending:
        operation = pending.operation
        is_certain = pending.state == "certain"
        if isinstance(operation, Truncate):
            if is_certain or rng.random() < survival:
                _apply(content, operation)
            continue
        start, end = operation.offset, operation.offset + len(operation.data)
        length = max(length, end)
        while start < end:
            stop = min(end, (start // SECTOR + 1) * SECTOR)
            if is_certain or rng.random() < survival:
                reached = stop if is_certain or rng.random() < 0.95 else rng.randrange(start, stop)
                data = operation.data[start - operation.offset : reached - operation.offset]
                _apply(content, Write(operation.inode, start, data))
            start = stop
    if rng.random() < 0.25:  # some file systems settle a file's length before its data
        content.extend(bytes(max(0, length - len(content))))
    return bytes(content)


def _apply(content: bytearray, operation: Write | Truncate) -> None:
    if isinstance(operation, Truncate):
        del content[operation.size :]
        content.extend(bytes(operation.size - len(content)))
        return
    if operation.data:
        content.extend(bytes(max(0, operation.offset - len(content))))
        content[operation.offset : operation.offset + len(operation.data)] = operation.data
