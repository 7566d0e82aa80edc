"""Maps through libbpf: one entry, many at once, all of them. Keys and values are bytes.

Every function raises DataplaneError with the operation, the map and the errno.
"""

from __future__ import annotations

import ctypes as c
import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netagent.dataplane.libbpf import fail, library, read_info

BATCH_ROWS = 16384


class _BatchOptions(c.Structure):
    _fields_ = (("sz", c.c_size_t), ("elem_flags", c.c_uint64), ("flags", c.c_uint64))


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


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says of a map. key_bytes, value_bytes: sizes; capacity: entries at most."""

    map_id: int
    key_bytes: int
    value_bytes: int
    capacity: int


def map_info(fd: int) -> MapInfo:
    """Return what the kernel says of the map."""
    info = _MapInfo()
    read_info(fd, info)
    return MapInfo(info.id, info.key_size, info.value_size, info.max_entries)


def map_lookup(fd: int, subject: str, key: bytes, value_bytes: int) -> bytes | None:
    """Return a value, or None; value_bytes: for per-CPU maps that of all processors together."""
    value = c.create_string_buffer(value_bytes)
    result = library().bpf_map_lookup_elem(fd, key, value)
    if result == -errno.ENOENT:
        return None
    if result < 0:
        raise fail("read", subject, -result)
    return value.raw


def map_lookup_each(
    fd: int, subject: str, keys: Iterable[bytes], value_bytes: int
) -> Iterator[bytes | None]:
    """Yield each key's value, or None: map_lookup for many, at half the cost."""
    lookup, value = library().bpf_map_lookup_elem, c.create_string_buffer(value_bytes)
    for key in keys:
        result = lookup(fd, key, value)
        if result < 0 and result != -errno.ENOENT:
            raise fail("read", subject, -result)
        yield None if result < 0 else value.raw


def map_update(fd: int, subject: str, key: bytes, value: bytes) -> None:
    """Add or replace one entry."""
    result = library().bpf_map_update_elem(fd, key, value, c.c_uint64(0))
    if result < 0:
        raise fail("update", subject, -result)


def map_delete(fd: int, subject: str, key: bytes) -> bool:
    """Delete one entry; False when it was absent."""
    result = library().bpf_map_delete_elem(fd, key)
    if result < 0 and result != -errno.ENOENT:
        raise fail("delete from", subject, -result)
    return bool(result == 0)


def map_update_batch(fd: int, subject: str, keys: bytes, values: bytes, rows: int) -> None:
    """Add or replace many entries: keys and values packed one behind the other."""
    options = _BatchOptions(sz=c.sizeof(_BatchOptions))
    key_bytes, value_bytes = len(keys) // rows, len(values) // rows
    for start in range(0, rows, BATCH_ROWS):
        count = c.c_uint32(min(BATCH_ROWS, rows - start))
        part = slice(start * key_bytes, (start + count.value) * key_bytes)
        part_values = slice(start * value_bytes, (start + count.value) * value_bytes)
        result = library().bpf_map_update_batch(
            fd, keys[part], values[part_values], c.byref(count), c.byref(options)
        )
        if result < 0:
            raise fail("update", f"{subject} (row {start + count.value} of {rows})", -result)


def map_delete_batch(fd: int, subject: str, keys: bytes, rows: int) -> None:
    """Delete many entries that are there: keys packed one behind the other.

    One that is absent is deleted already.
    """
    key_bytes = len(keys) // rows
    start = 0
    while start < rows:
        count = c.c_uint32(min(BATCH_ROWS, rows - start))
        part = slice(start * key_bytes, (start + count.value) * key_bytes)
        options = _BatchOptions(sz=c.sizeof(_BatchOptions))
        result = library().bpf_map_delete_batch(fd, keys[part], c.byref(count), c.byref(options))
        if result < 0 and result != -errno.ENOENT:
            raise fail("delete from", f"{subject} (row {start + count.value} of {rows})", -result)
        # The kernel stops at an absent entry: go on behind it.
        start += count.value + (result == -errno.ENOENT)


def map_rows(fd: int, subject: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield all (key, value) of a map, in no order; what changes meanwhile may be missed."""
    info = map_info(fd)
    key_bytes, value_bytes = info.key_bytes, info.value_bytes
    for keys, values in map_batches(fd, subject):
        for row in range(len(keys) // key_bytes):
            yield (
                keys[row * key_bytes : (row + 1) * key_bytes],
                values[row * value_bytes : (row + 1) * value_bytes],
            )


def map_batches(fd: int, subject: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of many entries at once, one behind the other."""
    info = map_info(fd)
    options = _BatchOptions(sz=c.sizeof(_BatchOptions))
    keys = c.create_string_buffer(info.key_bytes * BATCH_ROWS)
    values = c.create_string_buffer(info.value_bytes * BATCH_ROWS)
    cursor = c.create_string_buffer(max(info.key_bytes, 4))
    is_first = True
    while True:
        count = c.c_uint32(BATCH_ROWS)
        result = library().bpf_map_lookup_batch(
            fd,
            None if is_first else cursor,
            cursor,
            keys,
            values,
            c.byref(count),
            c.byref(options),
        )
        # EINTR: an entry went while the kernel was about to read it; go on where it stopped.
        if result < 0 and result not in (-errno.ENOENT, -errno.EINTR):
            raise fail("read", subject, -result)
        is_first = is_first and result == -errno.EINTR and not count.value
        if count.value:
            yield (
                keys.raw[: count.value * info.key_bytes],
                values.raw[: count.value * info.value_bytes],
            )
        if result == -errno.ENOENT:
            return


def array_read(fd: int, subject: str, first: int, count: int, value_bytes: int) -> bytes:
    """Return `count` entries of an array from `first` on, one behind the other."""
    values = c.create_string_buffer(value_bytes * count)
    keys = c.create_string_buffer(4 * BATCH_ROWS)
    cursor = c.c_uint32(first - 1)
    done = 0
    while done < count:
        part = c.c_uint32(min(BATCH_ROWS, count - done))
        options = _BatchOptions(sz=c.sizeof(_BatchOptions))
        result = library().bpf_map_lookup_batch(
            fd,
            c.byref(cursor) if first + done else None,
            c.byref(cursor),
            keys,
            c.byref(values, done * value_bytes),
            c.byref(part),
            c.byref(options),
        )
        # The last entry of the array ends the walk with ENOENT.
        if part.value == 0 or (result < 0 and result != -errno.ENOENT):
            raise fail("read", f"{subject} (entry {first + done})", -result)
        done += part.value
    return values.raw


def array_write(fd: int, subject: str, first: int, values: bytes, count: int) -> None:
    """Write `count` entries of an array from `first` on, given one behind the other."""
    keys = (c.c_uint32 * count)(*range(first, first + count))
    map_update_batch(fd, subject, bytes(keys), values, count)
