"""The schema of the replica: a published interface, see docs/replica.md.

Addresses are text in the form of RFC 5952, so that plain SQL is of use. A change that could break a
reader raises SCHEMA_VERSION and is noted in the changelog.
"""

from __future__ import annotations

SCHEMA_VERSION = 1

HANDED_INTERFACES = """
CREATE TABLE IF NOT EXISTS handed_interfaces (
    interface TEXT PRIMARY KEY,
    mac TEXT NOT NULL,
    was_up INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""
"""Came after the first release: made in a file of that one as well, which it does not disturb."""

TAKEN_MACHINES = """
CREATE TABLE IF NOT EXISTS taken_machines (
    address TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""
"""As HANDED_INTERFACES, of the release in which moves can be forced."""

MOVE_TRIGGER = "ALTER TABLE transitions ADD COLUMN waits_for TEXT NOT NULL DEFAULT 'at-once'"
"""A column behind the others, of the same release: made where it is missing."""

HOLDER = "ALTER TABLE locations ADD COLUMN holder TEXT"
"""As MOVE_TRIGGER, of the release in which addresses can float."""

VIEWS = """
DROP VIEW IF EXISTS machines;

CREATE VIEW machines AS
SELECT
    networks.name AS network,
    locations.machine AS machine,
    locations.address AS address,
    hosts.name AS host,
    locations.identity AS identity,
    locations.epoch AS epoch,
    coalesce(hosts.name = (SELECT value FROM meta WHERE key = 'host'), 0) AS is_here,
    transitions.address IS NOT NULL AS is_moving
FROM locations
JOIN networks ON networks.number = locations.network
LEFT JOIN hosts ON hosts.locator = locations.locator
LEFT JOIN transitions ON transitions.address = locations.address
WHERE locations.holder IS NULL;

DROP VIEW IF EXISTS floating_addresses;

CREATE VIEW floating_addresses AS
SELECT
    networks.name AS network,
    locations.machine AS name,
    locations.address AS address,
    holders.machine AS machine,
    hosts.name AS host,
    coalesce(hosts.name = (SELECT value FROM meta WHERE key = 'host'), 0) AS is_here
FROM locations
JOIN networks ON networks.number = locations.network
LEFT JOIN locations AS holders ON holders.address = locations.holder
LEFT JOIN hosts ON hosts.locator = locations.locator
WHERE locations.holder IS NOT NULL;
"""
"""Made anew by each agent that starts, over tables that may be of an earlier release."""

POLICIES = """
CREATE TABLE IF NOT EXISTS policy (
    network INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    content BLOB NOT NULL,
    inside_class TEXT NOT NULL,
    egress_class TEXT NOT NULL,
    ingress_class TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS policy_pair (
    network INTEGER NOT NULL,
    direction TEXT NOT NULL,
    source INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    class TEXT NOT NULL,
    PRIMARY KEY (network, direction, source, destination)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS policy_interval (
    network INTEGER NOT NULL,
    class TEXT NOT NULL,
    protocol INTEGER NOT NULL,
    first_port INTEGER NOT NULL,
    last_port INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    rule INTEGER NOT NULL,
    audit_rule INTEGER,
    PRIMARY KEY (network, class, protocol, first_port)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS policy_prefix (
    network INTEGER NOT NULL,
    prefix TEXT NOT NULL,
    identity INTEGER NOT NULL,
    PRIMARY KEY (network, prefix)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS policy_rule (
    network INTEGER NOT NULL,
    rule INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (network, rule)
) STRICT, WITHOUT ROWID;
"""
"""As HANDED_INTERFACES, of the release that enforces policies."""

SCHEMA = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hosts (
    name TEXT PRIMARY KEY,
    region INTEGER NOT NULL,
    number INTEGER NOT NULL,
    address TEXT NOT NULL UNIQUE,
    locator TEXT NOT NULL UNIQUE,
    endpoint_address TEXT NOT NULL,
    endpoint_port INTEGER NOT NULL,
    public_key TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE networks (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL
) STRICT;

CREATE TABLE locations (
    address TEXT PRIMARY KEY,
    network INTEGER NOT NULL,
    machine TEXT NOT NULL,
    locator TEXT NOT NULL,
    identity INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    holder TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX locations_by_network ON locations (network, machine);

CREATE TABLE transitions (
    address TEXT PRIMARY KEY,
    network INTEGER NOT NULL,
    source TEXT NOT NULL,
    destination TEXT NOT NULL,
    epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX transitions_by_network ON transitions (network);

CREATE TABLE attachments (
    address TEXT PRIMARY KEY,
    machine TEXT NOT NULL UNIQUE,
    interface TEXT NOT NULL UNIQUE,
    mac TEXT NOT NULL,
    netns TEXT
) STRICT, WITHOUT ROWID;
"""
