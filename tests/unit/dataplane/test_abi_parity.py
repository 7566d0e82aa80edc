"""abi.h, the Python that mirrors it, the objects' BTF and docs/architecture.md say the same."""

from __future__ import annotations

import enum
import json
import os
import re
import struct
import subprocess
from dataclasses import dataclass, fields, replace
from functools import cache
from ipaddress import IPv6Network
from pathlib import Path

import pytest
from abi_samples import PACKED, READ_ONLY

from netagent.dataplane import abi, abi_flows, abi_policy
from netagent.dataplane.abi import Constants, EndpointFlag, Verdict
from netagent.dataplane.abi_flows import EventKind, FlowFlag, Program
from netagent.dataplane.datapath import OBJECTS, PROGRAMS
from netagent.dataplane.policy_tables import POLICY_CLASS, POLICY_NETWORK, RULE_INDEX
from netagent.dataplane.tables import (
    CONNTRACK,
    ENDPOINT,
    FRAGMENTS,
    LOCATION,
    MISDIRECTED,
    TRANSITION,
)
from netagent.model.addresses import Fleet, Locator, StableId, random_prefix
from netagent.policy.entries import Direction

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs/architecture.md").read_text()
HEADER = re.sub(r"/\*.*?\*/", "", (ROOT / "bpf/lib/abi.h").read_text(), flags=re.DOTALL)

SIZES = {
    "__be64": 8,
    "__u64": 8,
    "__be32": 4,
    "__u32": 4,
    "__be16": 2,
    "__u16": 2,
    "__u8": 1,
}

POLICIES = POLICY_CLASS, POLICY_NETWORK, RULE_INDEX

ENUMS: dict[str, tuple[type[enum.Enum], str]] = {
    "verdict": (Verdict, ""),
    "endpoint_flags": (EndpointFlag, "ENDPOINT_"),
    "flow_flags": (FlowFlag, "FLOW_"),
    "direction": (Direction, "DIRECTION_"),
    "event_kind": (EventKind, "EVENT_"),
    "program": (Program, "PROGRAM_"),
}


def structs_in_header() -> dict[str, dict[str, tuple[int, int]]]:
    """Return struct -> field -> (offset, size) in bytes, as C lays them out; and `sizeof`."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    alignments: dict[str, int] = {}
    for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", HEADER, re.DOTALL | re.MULTILINE):
        offsets, at, widest = {}, 0, 1
        members = re.findall(r"(struct )?(\w+) (\w+)(?:\[(\d+)\])?;", body)
        assert len(members) == body.count(";"), f"struct {name} has a member that this cannot read"
        for is_struct, kind, field, count in members:
            size = found[kind]["sizeof"][1] if is_struct else SIZES[kind]
            alignment = alignments[kind] if is_struct else size
            at = -(-at // alignment) * alignment
            offsets[field] = at, size * int(count or 1)
            at += offsets[field][1]
            widest = max(widest, alignment)
        offsets["sizeof"] = 0, -(-at // widest) * widest
        found[name], alignments[name] = offsets, widest
    return found


STRUCTS = structs_in_header()


def enum_in_header(name: str) -> dict[str, int]:
    found = re.search(rf"^enum {name} \{{(.*?)^\}};", HEADER, re.DOTALL | re.MULTILINE)
    assert found, f"abi.h has no enum {name}"
    return {key: int(value) for key, value in re.findall(r"(\w+) = (\d+)", found[1])}


@cache
def btf_of(path: Path) -> dict[int, dict]:
    told = subprocess.run(["bpftool", "btf", "dump", "file", str(path), "-j"], **CAPTURED)
    return {one["id"]: one for one in json.loads(told.stdout)["types"]}


CAPTURED = {"check": True, "capture_output": True, "text": True}


def object_path(name: str) -> Path:
    return Path(str(OBJECTS / f"{name}.bpf.o"))


def target_of(types: dict[int, dict], type_id: int) -> dict:
    """Return what typedefs and pointers lead to."""
    one = types[type_id]
    return target_of(types, one["type_id"]) if one["kind"] in ("TYPEDEF", "PTR") else one


def size_in_btf(types: dict[int, dict], type_id: int) -> int:
    one = types[type_id]
    if one["kind"] == "ARRAY":
        return one["nr_elems"] * size_in_btf(types, one["type_id"])
    return one["size"] if "size" in one else size_in_btf(types, one["type_id"])


def structs_in_btf(path: Path) -> dict[str, dict[str, tuple[int, int]]]:
    types = btf_of(path)
    return {
        one["name"]: {
            **{
                member["name"]: (
                    member["bits_offset"] // 8,
                    size_in_btf(types, member["type_id"]),
                )
                for member in one["members"]
            },
            "sizeof": (0, one["size"]),
        }
        for one in types.values()
        if one["kind"] == "STRUCT"
    }


KINDS = {
    1: "hash, no preallocation",
    2: "array",
    6: "per-CPU array",
    9: "LRU hash",
    11: "longest prefix, no preallocation",
    27: "ring buffer",
}
"""`enum bpf_map_type` of linux/bpf.h to the document's words; the flags are in both."""

NO_PREALLOCATION = 1


@dataclass(frozen=True)
class MapLayout:
    """What the document and the objects say of a map. sizes in bytes; 0: nothing is said."""

    kind: str
    key_bytes: int
    value_bytes: int
    capacity: int


def maps_in_document() -> dict[str, MapLayout]:
    table = DOCUMENT[DOCUMENT.index("\n## Maps") :]
    found = {}
    for name, cells in re.findall(r"^\| `(\w+)` \|(.*)\|$", table, re.MULTILINE):
        kind, key, value, _, capacity = (cell.strip() for cell in cells.split(" | "))
        number = int(capacity.removesuffix(" bytes").replace(",", ""))
        found[name] = MapLayout(kind, bytes_named(key), bytes_named(value), number)
    return found


def bytes_named(text: str) -> int:
    found = re.search(r"(\d+) bytes", text)
    return int(found[1]) if found else 0


def maps_in_objects() -> dict[str, MapLayout]:
    types = btf_of(object_path("maps"))
    found = {}
    for variable in types.values():
        if variable["kind"] != "VAR" or variable["name"] == "LICENSE":
            continue
        members = {
            member["name"]: target_of(types, member["type_id"])
            for member in types[variable["type_id"]]["members"]
        }
        kind = members["type"]["nr_elems"]
        is_array = kind in (2, 6)
        assert ("no preallocation" in KINDS[kind]) == ("map_flags" in members)
        if "map_flags" in members:
            assert members["map_flags"]["nr_elems"] == NO_PREALLOCATION
        sizes = [
            size_in_btf(types, members[side]["id"]) if side in members else 0
            for side in ("key", "value")
        ]
        found[variable["name"]] = MapLayout(
            KINDS[kind], 0 if is_array else sizes[0], sizes[1], members["max_entries"]["nr_elems"]
        )
    return found


def test_enums_have_the_same_names_and_numbers_in_header_and_python() -> None:
    names = set(re.findall(r"^enum (\w+) \{", HEADER, re.MULTILINE))
    assert names == ENUMS.keys()
    for name, (mirror, prefix) in ENUMS.items():
        mirrored = {prefix + one.name: int(one.value) for one in mirror}
        extra = enum_in_header(name).keys() - mirrored.keys()
        assert enum_in_header(name) == mirrored | {key: enum_in_header(name)[key] for key in extra}
        assert extra <= {"VERDICT_NONE", "VERDICT_COUNT", "DIRECTION_COUNT"}


def test_the_header_counts_verdicts_and_directions() -> None:
    assert enum_in_header("verdict")["VERDICT_COUNT"] == max(Verdict) + 1
    assert enum_in_header("direction")["DIRECTION_COUNT"] == len(Direction)


def test_the_document_explains_every_verdict_and_no_other() -> None:
    named = set(re.findall(r"`((?:pass|drop)_[a-z0-9_]+)`", DOCUMENT))
    assert named == {verdict.label for verdict in Verdict}


def test_abi_version_is_the_same_everywhere() -> None:
    assert f"#define NETAGENT_ABI_VERSION {abi.ABI_VERSION}" in HEADER
    assert f"netagent/v{abi.ABI_VERSION}/" in DOCUMENT


def test_the_compiler_lays_out_the_header_as_we_read_it(tmp_path: Path) -> None:
    source, compiled = tmp_path / "every_struct.c", tmp_path / "every_struct.o"
    lines = [f"struct {name} an_{name};" for name in STRUCTS]
    source.write_text("\n".join(['#include "abi.h"', *lines, ""]))
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu", f"-I{ROOT / 'bpf/lib'}"
    command = ["clang", "-target", "bpf", "-g", "-c", *include, str(source), "-o", str(compiled)]
    subprocess.run(command, **CAPTURED)

    assert structs_in_btf(compiled) == STRUCTS


@pytest.mark.parametrize("name", ["maps", *PROGRAMS])
def test_shipped_objects_were_compiled_from_this_header(name: str) -> None:
    """`struct event` is no value of a map, so that no object carries it."""
    compiled = structs_in_btf(object_path(name))
    carried = STRUCTS.keys() - {"event"}
    assert {one: compiled[one] for one in carried} == {one: STRUCTS[one] for one in carried}


def test_every_struct_of_the_header_is_mirrored() -> None:
    assert {row[0] for row in PACKED} | READ_ONLY.keys() == STRUCTS.keys()


@pytest.mark.parametrize(("name", "packed", "values"), PACKED, ids=[row[0] for row in PACKED])
def test_python_packs_each_field_where_the_header_has_it(
    name: str, packed: bytes, values: dict[str, int | bytes]
) -> None:
    assert packed == lay_out(name, values)


def lay_out(name: str, values: dict[str, int | bytes]) -> bytes:
    """Return a struct as C has it. values: ints in host order, bytes as they are."""
    offsets = dict(STRUCTS[name])
    raw = bytearray(offsets.pop("sizeof")[1])
    for field, value in values.items():
        at, size = offsets[field]
        assert field.endswith("_be") <= isinstance(value, bytes), f"{field} is in network order"
        part = value if isinstance(value, bytes) else struct.pack(f"={' BH I   Q'[size]}", value)
        assert len(part) == size
        raw[at : at + size] = part
    assert set(offsets) - set(values) <= {"reserved"}
    return bytes(raw)


@pytest.mark.parametrize("name", ["location", "transition", "endpoint", "flow", "flow_state"])
def test_a_packed_row_is_read_back(name: str) -> None:
    packed = next(row[1] for row in PACKED if row[0] == name)
    module = abi if hasattr(abi, f"pack_{name}") else abi_flows
    assert getattr(module, f"pack_{name}")(getattr(module, f"unpack_{name}")(packed)) == packed


@pytest.mark.parametrize(
    "name",
    [
        "policy_network",
        "policy_pair",
        "policy_prefix",
        "policy_class",
        "policy_interval",
        "interval_range",
        "rule",
    ],
)
def test_a_packed_row_of_a_policy_is_read_back(name: str) -> None:
    packed = next(row[1] for row in PACKED if row[0] == name)
    unpacked = getattr(abi_policy, f"unpack_{name}")(packed)
    assert getattr(abi_policy, f"pack_{name}")(unpacked) == packed


def test_an_event_is_read_field_by_field() -> None:
    values, expected = READ_ONLY["event"]
    assert abi_flows.unpack_event(lay_out("event", values)) == expected
    assert len(fields(expected)) == len(values)


def test_a_prefix_key_matches_network_and_slot_whole() -> None:
    row = abi_policy.PolicyPrefixRow(1, 1, IPv6Network("2001:db8::/32"))
    packed = abi_policy.pack_policy_prefix(row)
    at, _ = STRUCTS["policy_prefix"]["address"]
    first_bits = STRUCTS["policy_prefix"]["prefix_bits"][1]
    assert (at - first_bits) * 8 == abi_policy.PREFIX_FIXED_BITS
    assert int.from_bytes(packed[:4], "little") == (at - first_bits) * 8 + 32


def test_the_document_describes_every_map_as_it_is() -> None:
    documented = maps_in_document()
    # The ring buffer's rows are events: the map itself has neither key nor value.
    events = documented["events"]
    assert events.value_bytes == STRUCTS["event"]["sizeof"][1]
    assert documented | {"events": replace(events, value_bytes=0)} == maps_in_objects()


def test_the_document_gives_every_structs_size() -> None:
    named = {name: int(size) for name, size in re.findall(r"`struct (\w+)`, (\d+) bytes", DOCUMENT)}
    assert named == {name: offsets["sizeof"][1] for name, offsets in STRUCTS.items()}


def test_every_map_is_opened_with_the_layout_that_it_has() -> None:
    compiled = maps_in_objects()
    for layout in (CONNTRACK, ENDPOINT, FRAGMENTS, LOCATION, MISDIRECTED, TRANSITION, *POLICIES):
        found = compiled[layout.name]
        assert (layout.key_bytes, layout.value_bytes) == (found.key_bytes, found.value_bytes)


def test_constants_fill_the_objects_configuration() -> None:
    fleet = Fleet("f", random_prefix())
    constants = Constants(fleet, Locator(0xFC1A000100021234), StableId(1), 1408, 3)
    for program in PROGRAMS:
        assert len(constants.pack()) == structs_in_btf(object_path(program))["config"]["sizeof"][1]
