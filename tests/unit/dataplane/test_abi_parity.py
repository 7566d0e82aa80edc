"""abi.h, abi.py, the compiled objects' BTF and docs/architecture.md say the same."""

from __future__ import annotations

import ctypes
import re
import struct
import subprocess
from pathlib import Path

import pytest

from netagent.dataplane import abi
from netagent.dataplane.abi import Constants, EndpointRow, FlowRow, TransitionRow, Verdict
from netagent.dataplane.datapath import OBJECTS, PROGRAMS
from netagent.dataplane.tables import CONNTRACK, ENDPOINT, LOCATION, TRANSITION
from netagent.model.addresses import Fleet, Locator, StableId, random_prefix
from netagent.model.fleet import Identity, Location

ROOT = Path(__file__).parents[3]
HEADER = (ROOT / "bpf/lib/abi.h").read_text()
DOCUMENT = (ROOT / "docs/architecture.md").read_text()

SIZES = {"__be64": 8, "__u64": 8, "__u32": 4, "__be16": 2, "__u16": 2, "__u8": 1}

LAYOUTS = {
    "location": (LOCATION.value_bytes, LOCATION.key_bytes),
    "transition": (TRANSITION.value_bytes, TRANSITION.key_bytes),
    "endpoint": (ENDPOINT.value_bytes, ENDPOINT.key_bytes),
}

LOCATOR, OTHER_LOCATOR, MACHINE = (
    Locator(0xFC1A000100021234),
    Locator(0xFC1A000100034321),
    StableId(0x0000000A00100007),
)


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def offsets_in_header(name: str) -> dict[str, tuple[int, int]]:
    """Return field -> (offset, size) of a struct of abi.h, in bytes, as C lays it out."""
    found = re.search(rf"struct {name} \{{(.*?)\}};", without_comments(HEADER), re.DOTALL)
    assert found, f"abi.h has no struct {name}"
    fields, at, widest = {}, 0, 1
    for kind, field, count in re.findall(r"(\w+)\s+(\w+)(?:\[(\d+)\])?;", found[1]):
        at = -(-at // SIZES[kind]) * SIZES[kind]
        fields[field] = at, SIZES[kind] * int(count or 1)
        at += fields[field][1]
        widest = max(widest, SIZES[kind])
    fields["sizeof"] = 0, -(-at // widest) * widest
    return fields


def verdicts_in_header() -> dict[str, int]:
    found = re.search(r"enum verdict \{(.*?)\};", without_comments(HEADER), re.DOTALL)
    assert found
    pairs = re.findall(r"(\w+) = (\d+)", found[1])
    return {name: int(value) for name, value in pairs if name.startswith(("PASS_", "DROP_"))}


def test_verdicts_have_the_same_names_and_numbers_in_header_and_python() -> None:
    assert verdicts_in_header() == {verdict.name: int(verdict) for verdict in Verdict}


def test_the_header_counts_all_verdicts() -> None:
    found = re.search(r"VERDICT_COUNT = (\d+)", HEADER)
    assert found
    assert int(found[1]) == max(Verdict) + 1


def test_the_document_explains_every_verdict_and_no_other() -> None:
    named = set(re.findall(r"`((?:pass|drop)_[a-z0-9_]+)`", DOCUMENT))
    assert named == {verdict.label for verdict in Verdict}


def test_the_document_gives_every_maps_size() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", DOCUMENT, re.MULTILINE))
    assert set(rows) >= {"location", "transition", "endpoint", "conntrack", "counters"}
    for name, (value_bytes, key_bytes) in LAYOUTS.items():
        assert offsets_in_header(name)["sizeof"][1] == value_bytes
        assert f"`struct {name}`, {value_bytes} bytes" in rows[name]
        assert key_bytes == 8
    assert f"`struct flow`, {CONNTRACK.key_bytes} bytes" in rows["conntrack"]
    assert f"`struct flow_state`, {CONNTRACK.value_bytes} bytes" in rows["conntrack"]
    assert "`struct counter`, 16 bytes" in rows["counters"]
    assert f"| {max(Verdict) + 1} |" in f"|{rows['counters']}|"


def test_abi_version_is_the_same_everywhere() -> None:
    assert f"#define NETAGENT_ABI_VERSION {abi.ABI_VERSION}" in HEADER
    assert f"netagent/v{abi.ABI_VERSION}/" in DOCUMENT


PACKED = [
    (
        "location",
        abi.pack_location(Location(LOCATOR, Identity(7), 9)),
        {"locator_be": LOCATOR.to_bytes(8, "big"), "identity": 7, "epoch": 9},
    ),
    (
        "transition",
        abi.pack_transition(TransitionRow(LOCATOR, OTHER_LOCATOR, 11, 12)),
        {
            "source_be": LOCATOR.to_bytes(8, "big"),
            "destination_be": OTHER_LOCATOR.to_bytes(8, "big"),
            "deadline_ns": 11,
            "epoch": 12,
        },
    ),
    (
        "endpoint",
        abi.pack_endpoint(EndpointRow(5, b"\2nabcd", True)),
        {"ifindex": 5, "flags": 1, "mac": b"\2nabcd"},
    ),
    (
        "flow",
        abi.pack_flow(FlowRow(MACHINE, StableId(3), 443, 4000, 17)),
        {
            "source_be": MACHINE.to_bytes(8, "big"),
            "destination_be": bytes(7) + b"\3",
            "source_port_be": b"\x01\xbb",
            "destination_port_be": b"\x0f\xa0",
            "protocol": 17,
        },
    ),
    ("flow_state", abi.pack_seen(13), {"seen_ns": 13}),
]


@pytest.mark.parametrize(("name", "packed", "fields"), PACKED, ids=[row[0] for row in PACKED])
def test_python_packs_each_field_where_the_header_has_it(
    name: str, packed: bytes, fields: dict[str, int | bytes]
) -> None:
    offsets = offsets_in_header(name)
    assert len(packed) == offsets.pop("sizeof")[1]
    expected = bytearray(len(packed))
    for field, value in fields.items():
        at, size = offsets[field]
        raw = value if isinstance(value, bytes) else struct.pack(f"={' BH I   Q'[size]}", value)
        expected[at : at + size] = raw
    assert packed == bytes(expected)
    assert set(offsets) - set(fields) <= {"reserved"}


def test_constants_fill_the_objects_configuration() -> None:
    constants = Constants(Fleet("f", random_prefix()), LOCATOR, MACHINE, 1408, 3)
    for program in PROGRAMS:
        assert len(constants.pack()) == rodata_bytes(program)


def rodata_bytes(program: str) -> int:
    sections = subprocess.run(
        ["readelf", "--sections", "--wide", str(OBJECTS / f"{program}.bpf.o")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"\.rodata\.config\s+PROGBITS\s+\w+\s+\w+\s+(\w+)", sections)
    assert found, f"{program} has no .rodata.config"
    return int(found[1], 16)


def test_python_and_c_agree_on_byte_order_of_the_machine() -> None:
    assert abi.unpack_seen(bytes(ctypes.c_uint64(0x0102030405060708))) == 0x0102030405060708
