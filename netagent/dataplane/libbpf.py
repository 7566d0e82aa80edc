"""A thin binding to libbpf 1.x through ctypes: objects, maps, pins and test runs.

Knows nothing of netagent's maps and programs. Every function raises DataplaneError with the
operation, the object and the errno; what libbpf and the verifier say goes into its text.
Source: bpf/libbpf.h and bpf/bpf.h of libbpf 1.1.
"""

from __future__ import annotations

import ctypes as c
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from netagent.model.errors import AbiMismatchError, DataplaneError

BATCH_ROWS = 16384

_PRINT = c.CFUNCTYPE(c.c_int, c.c_int, c.c_char_p, c.c_void_p)


class _OpenOptions(c.Structure):
    _fields_ = (
        ("sz", c.c_size_t),
        ("object_name", c.c_char_p),
        ("relaxed_maps", c.c_bool),
        ("pin_root_path", c.c_char_p),
        ("unused", c.c_uint32),
        ("kconfig", c.c_char_p),
        ("btf_custom_path", c.c_char_p),
        ("kernel_log_buf", c.c_char_p),
        ("kernel_log_size", c.c_size_t),
        ("kernel_log_level", c.c_uint32),
    )


class _BatchOptions(c.Structure):
    _fields_ = (("sz", c.c_size_t), ("elem_flags", c.c_uint64), ("flags", c.c_uint64))


class _TestRunOptions(c.Structure):
    _fields_ = (
        ("sz", c.c_size_t),
        ("data_in", c.c_char_p),
        ("data_out", c.c_void_p),
        ("data_size_in", c.c_uint32),
        ("data_size_out", c.c_uint32),
        ("ctx_in", c.c_char_p),
        ("ctx_out", c.c_void_p),
        ("ctx_size_in", c.c_uint32),
        ("ctx_size_out", c.c_uint32),
        ("retval", c.c_uint32),
        ("repeat", c.c_int),
        ("duration", c.c_uint32),
        ("flags", c.c_uint32),
        ("cpu", c.c_uint32),
        ("batch_size", c.c_uint32),
    )


class _MapInfo(c.Structure):
    """`struct bpf_map_info` of linux/bpf.h, as far as we read it."""

    _fields_ = (
        ("type", c.c_uint32),
        ("id", c.c_uint32),
        ("key_size", c.c_uint32),
        ("value_size", c.c_uint32),
        ("max_entries", c.c_uint32),
        ("map_flags", c.c_uint32),
        ("name", c.c_char * 16),
    )


class _ProgramInfo(c.Structure):
    """`struct bpf_prog_info` of linux/bpf.h, as far as we read it."""

    _fields_ = (("type", c.c_uint32), ("id", c.c_uint32), ("tag", c.c_uint8 * 8))


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says of a map. key_bytes, value_bytes: sizes; capacity: entries at most."""

    map_id: int
    key_bytes: int
    value_bytes: int
    capacity: int


@dataclass(frozen=True, slots=True)
class ProgramRun:
    """What a program did to one packet.

    action: its return value. data: the packet after it. ctx: `struct __sk_buff` after it.
    duration_ns: average of one run.
    """

    action: int
    data: bytes
    ctx: bytes
    duration_ns: int


@cache
def _libbpf() -> Any:
    try:
        lib = c.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise DataplaneError("load", "libbpf.so.1", f"{error}; install libbpf1") from error
    for name in (
        "bpf_object__open_file",
        "bpf_object__find_map_by_name",
        "bpf_object__next_map",
        "bpf_object__find_program_by_name",
        "bpf_map__initial_value",
    ):
        getattr(lib, name).restype = c.c_void_p
    lib.bpf_map__name.restype = c.c_char_p
    lib.libbpf_set_print.restype = c.c_void_p
    return lib


_messages: list[str] = []


def _collect_messages() -> None:
    """Send what libbpf says into `_messages` instead of stderr; keep the callback alive."""
    libc = c.CDLL(None)

    def record(level: int, text: bytes, arguments: int) -> int:
        if level == 0:  # LIBBPF_WARN
            buffer = c.create_string_buffer(1 << 16)
            libc.vsnprintf(buffer, c.c_size_t(len(buffer)), text, c.c_void_p(arguments))
            _messages.append(buffer.value.decode(errors="replace").strip())
        return 0

    callback = _PRINT(record)
    _libbpf().libbpf_set_print(callback)
    _keep_alive.append(callback)


_keep_alive: list[Any] = []


def _fail(operation: str, subject: str, code: int) -> DataplaneError:
    detail = os.strerror(code)
    if _messages:
        detail += ": " + "; ".join(_messages)[-2000:]
        _messages.clear()
    return DataplaneError(operation, subject, detail, code)


class BpfObject:
    """One compiled object: open, set its constants, load, and take its programs' descriptors."""

    def __init__(self, path: Path, pin_root: Path) -> None:
        """Open without loading.

        pin_root: where maps that are pinned by name are, or will be, pinned.
        """
        if not _keep_alive:
            _collect_messages()
        self._lib = _libbpf()
        self._path = path
        options = _OpenOptions(sz=c.sizeof(_OpenOptions), pin_root_path=os.fsencode(pin_root))
        self._handle = self._lib.bpf_object__open_file(os.fsencode(path), c.byref(options))
        if not self._handle:
            raise _fail("open", f"BPF object {path.name}", c.get_errno())

    def set_constants(self, raw: bytes) -> None:
        """Set .rodata.config, one structure of len(raw) bytes. Before load."""
        handle = c.c_void_p(None)
        while True:
            handle = c.c_void_p(
                self._lib.bpf_object__next_map(c.c_void_p(self._handle), handle) or None
            )
            if not handle:
                raise AbiMismatchError(
                    "configure", f"BPF object {self._path.name}", "no .rodata.config"
                )
            if self._lib.bpf_map__name(handle).endswith(b".rodata.config"):
                break
        size = c.c_size_t()
        address = self._lib.bpf_map__initial_value(handle, c.byref(size))
        if size.value != len(raw):
            problem = f".rodata.config holds {size.value} bytes, not {len(raw)}"
            raise AbiMismatchError("configure", f"BPF object {self._path.name}", problem)
        c.memmove(address, raw, len(raw))

    def load(self) -> None:
        """Load maps and programs; adopts maps that are pinned with the same layout."""
        result = self._lib.bpf_object__load(c.c_void_p(self._handle))
        if result < 0:
            raise _fail("load", f"BPF object {self._path.name}", -result)

    def program(self, name: str) -> int:
        """Return a descriptor of the loaded program that the caller must close."""
        program = self._lib.bpf_object__find_program_by_name(
            c.c_void_p(self._handle), name.encode()
        )
        if not program:
            raise AbiMismatchError("find", f"program {name}", f"not in {self._path.name}")
        return os.dup(self._lib.bpf_program__fd(c.c_void_p(program)))

    def close(self) -> None:
        """Free the object; pinned maps and duplicated descriptors stay."""
        if self._handle:
            self._lib.bpf_object__close(c.c_void_p(self._handle))
            self._handle = None

    def __enter__(self) -> BpfObject:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def pin(fd: int, path: Path) -> None:
    """Pin a program or map; an existing pin is an error (EEXIST)."""
    result = _libbpf().bpf_obj_pin(fd, os.fsencode(path))
    if result < 0:
        raise _fail("pin", str(path), -result)


def open_pinned(path: Path) -> int:
    """Return a new descriptor of what is pinned at `path`."""
    fd = int(_libbpf().bpf_obj_get(os.fsencode(path)))
    if fd < 0:
        raise _fail("open pinned", str(path), -fd)
    return fd


def _info(fd: int, info: c.Structure) -> None:
    size = c.c_uint32(c.sizeof(info))
    result = _libbpf().bpf_obj_get_info_by_fd(fd, c.byref(info), c.byref(size))
    if result < 0:
        raise _fail("inspect", f"descriptor {fd}", -result)


def map_info(fd: int) -> MapInfo:
    """Return what the kernel says of the map."""
    info = _MapInfo()
    _info(fd, info)
    return MapInfo(info.id, info.key_size, info.value_size, info.max_entries)


def program_id(fd: int) -> int:
    """Return the kernel's id of the program, unique until reboot."""
    info = _ProgramInfo()
    _info(fd, info)
    return int(info.id)


def map_lookup(fd: int, subject: str, key: bytes, value_bytes: int) -> bytes | None:
    """Return a value, or None; value_bytes: for per-CPU maps that of all processors together."""
    value = c.create_string_buffer(value_bytes)
    result = _libbpf().bpf_map_lookup_elem(fd, key, value)
    if result == -errno.ENOENT:
        return None
    if result < 0:
        raise _fail("read", subject, -result)
    return value.raw


def map_update(fd: int, subject: str, key: bytes, value: bytes) -> None:
    """Add or replace one entry."""
    result = _libbpf().bpf_map_update_elem(fd, key, value, c.c_uint64(0))
    if result < 0:
        raise _fail("update", subject, -result)


def map_delete(fd: int, subject: str, key: bytes) -> bool:
    """Delete one entry; False when it was absent."""
    result = _libbpf().bpf_map_delete_elem(fd, key)
    if result < 0 and result != -errno.ENOENT:
        raise _fail("delete from", subject, -result)
    return bool(result == 0)


def map_update_batch(fd: int, subject: str, keys: bytes, values: bytes, rows: int) -> None:
    """Add or replace many entries: keys and values packed one behind the other."""
    options = _BatchOptions(sz=c.sizeof(_BatchOptions))
    key_bytes, value_bytes = len(keys) // rows, len(values) // rows
    for start in range(0, rows, BATCH_ROWS):
        count = c.c_uint32(min(BATCH_ROWS, rows - start))
        part = slice(start * key_bytes, (start + count.value) * key_bytes)
        part_values = slice(start * value_bytes, (start + count.value) * value_bytes)
        result = _libbpf().bpf_map_update_batch(
            fd, keys[part], values[part_values], c.byref(count), c.byref(options)
        )
        if result < 0:
            raise _fail("update", f"{subject} (row {start + count.value} of {rows})", -result)


def map_rows(fd: int, subject: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield all (key, value) of a hash map, in no order; what changes meanwhile may be missed."""
    info = map_info(fd)
    options = _BatchOptions(sz=c.sizeof(_BatchOptions))
    key_bytes, value_bytes = info.key_bytes, info.value_bytes
    keys = c.create_string_buffer(key_bytes * BATCH_ROWS)
    values = c.create_string_buffer(value_bytes * BATCH_ROWS)
    cursor = c.create_string_buffer(max(key_bytes, 4))
    is_first = True
    while True:
        count = c.c_uint32(BATCH_ROWS)
        result = _libbpf().bpf_map_lookup_batch(
            fd,
            None if is_first else cursor,
            cursor,
            keys,
            values,
            c.byref(count),
            c.byref(options),
        )
        if result < 0 and result != -errno.ENOENT:
            raise _fail("read", subject, -result)
        is_first = False
        raw_keys, raw_values = keys.raw, values.raw
        for row in range(count.value):
            yield (
                raw_keys[row * key_bytes : (row + 1) * key_bytes],
                raw_values[row * value_bytes : (row + 1) * value_bytes],
            )
        if result == -errno.ENOENT:
            return


def run_program(
    fd: int, packet: bytes, *, ctx: bytes = b"", repeat: int = 1, room_bytes: int = 4096
) -> ProgramRun:
    """Run a tc program on a packet through BPF_PROG_TEST_RUN.

    packet: from the Ethernet header on, or, for a program of a device without one, from the IPv6
    header on. ctx: `struct __sk_buff` (mark, priority, ifindex, … as the kernel lets it be set).
    """
    out = c.create_string_buffer(len(packet) + room_bytes)
    ctx_out = c.create_string_buffer(max(len(ctx), 1))
    options = _TestRunOptions(
        sz=c.sizeof(_TestRunOptions),
        data_in=packet,
        data_out=c.cast(out, c.c_void_p),
        data_size_in=len(packet),
        data_size_out=len(out),
        repeat=repeat,
    )
    if ctx:
        options.ctx_in = ctx
        options.ctx_size_in = len(ctx)
        options.ctx_out = c.cast(ctx_out, c.c_void_p)
        options.ctx_size_out = len(ctx)
    result = _libbpf().bpf_prog_test_run_opts(fd, c.byref(options))
    if result < 0:
        raise _fail("test-run", f"program {fd} on {len(packet)} bytes", -result)
    return ProgramRun(
        options.retval,
        out.raw[: options.data_size_out],
        ctx_out.raw[: len(ctx)],
        options.duration,
    )


def enable_statistics() -> int:
    """Make the kernel time every run of every program until the returned descriptor is closed."""
    fd = int(_libbpf().bpf_enable_stats(0))  # BPF_STATS_RUN_TIME
    if fd < 0:
        raise _fail("enable", "run-time statistics", -fd)
    return fd
