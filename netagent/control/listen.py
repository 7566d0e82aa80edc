"""Where control may listen: a unix socket or loopback, anywhere else only when told so loudly."""

from __future__ import annotations

import logging
import os
import socket
import stat
from ipaddress import ip_address
from pathlib import Path

import grpc.aio

from netagent.control.logging import log_event
from netagent.model.errors import ConfigError, StateError, UnavailableError

_UNIX = "unix://"


def check_listen(listen: str, *, is_insecure: bool) -> tuple[str, ...]:
    """Check addresses, separated by commas, and return them as gRPC takes them.

    listen: unix:///PATH or HOST:PORT with a literal address, each. Raises ConfigError.
    """
    return tuple(
        _check_address(part.strip(), is_insecure=is_insecure) for part in listen.split(",")
    )


def _check_address(listen: str, *, is_insecure: bool) -> str:
    if listen.startswith("unix:"):
        path = Path(listen.removeprefix(_UNIX))
        if not listen.startswith(_UNIX) or not path.is_absolute() or len(os.fsencode(path)) > 107:
            raise ConfigError(
                f"listen: {listen} is not unix:///PATH with an absolute path of at most 107 bytes"
            )
        return listen
    host, separator, port = listen.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
        is_port = port.isascii() and port.isdecimal() and int(port) <= 0xFFFF
    except ValueError:
        address, is_port = None, False
    if not separator or address is None or not is_port:
        raise ConfigError(
            f"listen: {listen} is neither unix:///PATH nor ADDRESS:PORT with a literal address"
        )
    if not address.is_loopback:
        if not is_insecure:
            raise ConfigError(
                f"listen: {listen} is not loopback, and whoever reaches it would control the fleet"
                " without any authentication; use a unix socket or loopback, or allow it with"
                " --insecure"
            )
        log_event(
            logging.WARNING,
            "INSECURE: control listens without authentication and encryption; whoever reaches"
            " this address controls the fleet",
            listen=listen,
        )
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def bind(server: grpc.aio.Server, target: str) -> str:
    """Bind a server that has not started; returns what clients dial, with the port for port 0.

    A socket can be opened by its owner only, whatever the umask. Raises UnavailableError.
    """
    umask = os.umask(0o177)
    try:
        port = server.add_insecure_port(target)
    except RuntimeError as error:
        raise UnavailableError(
            f"listen: cannot listen on {target}: it is in use, or not an address of this host"
        ) from error
    finally:
        os.umask(umask)
    return target if target.startswith(_UNIX) else f"{target.rpartition(':')[0]}:{port}"


def prepare_socket(target: str) -> None:
    """Make the directory of a unix socket, and remove a socket that a dead process has left there.

    Call it only while holding the state directory: of two processes that start at once, the later
    would remove the socket of the earlier.
    Raises StateError while a living process listens on it, ConfigError when it is no socket,
    UnavailableError when it cannot be used.
    """
    if not target.startswith(_UNIX):
        return
    path = Path(target.removeprefix(_UNIX))
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"listen: cannot make {path.parent}: {error.strerror}") from error
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"listen: {path} exists and is no socket; remove it or choose another")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise UnavailableError(f"listen: cannot probe {path}: {error.strerror}") from error
    raise StateError(f"listen: another process listens on {path}; stop it first")
