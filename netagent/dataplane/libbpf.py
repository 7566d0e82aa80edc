"""A thin binding to libbpf 1.x through ctypes: objects, pins and runs; for maps see bpf_map.

Knows nothing of netagent's maps and programs. Every function raises DataplaneError with the
operation, the object and the errno; what libbpf and the verifier say goes into its text.
Source: bpf/libbpf.h and bpf/bpf.h of libbpf 1.1.
"""

from __future__ import annotations

import ctypes as c
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from netagent.model.errors import AbiMismatchError, DataplaneError

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
def library() -> Any:
    """Return libbpf; DataplaneError when it is not installed."""
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
        "ring_buffer__new",
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
    library().libbpf_set_print(callback)
    _keep_alive.append(callback)


_keep_alive: list[Any] = []


def fail(operation: str, subject: str, code: int) -> DataplaneError:
    """Return the error for a call that gave `code`, with what libbpf has said about it."""
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
        self._lib = library()
        self._path = path
        options = _OpenOptions(sz=c.sizeof(_OpenOptions), pin_root_path=os.fsencode(pin_root))
        self._handle = self._lib.bpf_object__open_file(os.fsencode(path), c.byref(options))
        if not self._handle:
            raise fail("open", f"BPF object {path.name}", c.get_errno())

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
            raise fail("load", f"BPF object {self._path.name}", -result)

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
    result = library().bpf_obj_pin(fd, os.fsencode(path))
    if result < 0:
        raise fail("pin", str(path), -result)


def open_pinned(path: Path) -> int:
    """Return a new descriptor of what is pinned at `path`."""
    fd = int(library().bpf_obj_get(os.fsencode(path)))
    if fd < 0:
        raise fail("open pinned", str(path), -fd)
    return fd


def read_info(fd: int, info: c.Structure) -> None:
    """Fill in what the kernel says of a map or program."""
    size = c.c_uint32(c.sizeof(info))
    result = library().bpf_obj_get_info_by_fd(fd, c.byref(info), c.byref(size))
    if result < 0:
        raise fail("inspect", f"descriptor {fd}", -result)


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
    result = library().bpf_prog_test_run_opts(fd, c.byref(options))
    if result < 0:
        raise fail("test-run", f"program {fd} on {len(packet)} bytes", -result)
    return ProgramRun(
        options.retval,
        out.raw[: options.data_size_out],
        ctx_out.raw[: len(ctx)],
        options.duration,
    )


def enable_statistics() -> int:
    """Make the kernel time every run of every program until the returned descriptor is closed."""
    fd = int(library().bpf_enable_stats(0))  # BPF_STATS_RUN_TIME
    if fd < 0:
        raise fail("enable", "run-time statistics", -fd)
    return fd
