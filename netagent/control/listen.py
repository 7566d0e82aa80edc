"""Where control may listen: a unix socket or loopback, anywhere else only when told so loudly."""

from __future__ import annotations

import logging
import os
import socket
import stat
from ipaddress import ip_address
from pathlib import Path

import grpc.aio

from netagent.control.config import UNIX, ControlConfig, split_listen
from netagent.control.logging import log_event
from netagent.model.errors import ConfigError, StateError, UnavailableError


def grpc_targets(config: ControlConfig) -> tuple[str, ...]:
    """Return the addresses as gRPC takes them; logs loudly those that are open to others."""
    return tuple(_grpc_target(each) for each in split_listen(config.listen))


def _grpc_target(listen: str) -> str:
    if listen.startswith(UNIX):
        return listen
    host, _, port = listen.rpartition(":")
    address = ip_address(host.removeprefix("[").removesuffix("]"))
    if not address.is_loopback:
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
    return target if target.startswith(UNIX) else f"{target.rpartition(':')[0]}:{port}"


def prepare_socket(target: str) -> None:
    """Make the directory of a unix socket, and remove a socket that a dead process has left there.

    Call it only while holding the state directory: of two processes that start at once, the later
    would remove the socket of the earlier.
    Raises StateError while a living process listens on it, ConfigError when it is no socket,
    UnavailableError when it cannot be used.
    """
    if not target.startswith(UNIX):
        return
    path = Path(target.removeprefix(UNIX))
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
