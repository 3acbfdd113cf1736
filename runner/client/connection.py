"""HTTP to the runner: one request after the other, repeated while the server cannot be reached."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Any, NamedTuple
from urllib.parse import SplitResult

PATIENCE = 60.0  # seconds for which a server that cannot be reached is asked again
ANSWER_SECONDS = 30.0
SLOWEST = 10  # times as many seconds may pass until an answer is whole
LARGEST = 1 << 28  # bytes of an answer
LONGEST = 1000  # characters of an error's text
PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.0)  # seconds between the first attempts; the last one between all others
NOT_NOW = (408, 429, 502, 503, 504)
OF_A_PROXY = (404, 500)  # unless the runner says why: the proxy may have lost it for a moment
OUR_FAULT = (404, 409, 413, 422)


class Failed(Exception):
    """The server did not do what was asked, as a sentence, and the exit code for that."""

    code = 4


class Unreachable(Failed):
    """The server cannot be reached, or cannot answer now."""


class Refused(Failed):
    """The server answered that it does not do this."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code = status, 2 if status in OUR_FAULT else 4


class Answer(NamedTuple):
    """One whole answer."""

    status: int
    headers: HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises `Unreachable` if it is none: something else than the runner has answered."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Unreachable("The answer is not JSON: is this the address of a runner?") from None

    def detail(self) -> str:
        """What an answer that is an error says."""
        try:
            return str(json.loads(self.body)["detail"])[:LONGEST]
        except (ValueError, LookupError, TypeError, RecursionError):
            place = self.headers["Location"] if 300 <= self.status < 400 else None
            return f"The runner answered {self.status}: it leads to {place}, which is not followed." if place else ""


class Connection:
    """The way to one runner. The token is sent with each request, and shown nowhere.

    `warn` is told, once per outage, why the server cannot be reached.
    """

    def __init__(self, url: SplitResult, token: str, warn: Callable[[str], None], patience: float = PATIENCE) -> None:
        self.url, self.warn, self.patience = url, warn, patience
        self._token = token

    @property
    def address(self) -> str:
        """The server's root, without a slash at its end."""
        return self.url.geturl().rstrip("/")

    def get(self, path: str, **more: Any) -> Answer:
        """The answer to a GET. See `ask`."""
        return self.ask("GET", path, **more)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
        raw: bool = False,
    ) -> Answer:
        """The answer, in so many seconds per attempt; it is JSON, unless it may be `raw`. A request is repeated until
        one succeeds: give a POST a key.

        Raises `Refused`, or `Unreachable` when it has failed for `patience` seconds; later calls then try only once.
        """
        begun, attempt, left = time.monotonic(), 0, self.patience
        while True:
            try:
                return checked(self.once(method, path, body, headers or {}, min(seconds, max(left, 1))), raw)
            except Unreachable as error:
                left = begun + self.patience - time.monotonic()
                if left <= 0:
                    self.patience = 0
                    raise
                if not attempt:
                    self.warn(f"{error} Trying again for {self.patience:g} s.")
                time.sleep(min(PAUSES[min(attempt, len(PAUSES) - 1)], left))
                attempt += 1

    def once(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}, seconds: float = 5
    ) -> Answer:
        """The answer to one attempt, whatever its status. Raises `Unreachable`, or `Failed` if it does not end."""
        connection = self._connect(seconds)
        try:
            response = self._send(connection, method, path, body, headers)
            answer = Answer(response.status, response.headers, whole(response, SLOWEST * seconds))
        except (OSError, HTTPException, UnicodeError) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()
        return answer

    def lines(self, path: str, first: float, later: float) -> Iterator[bytes]:
        """The lines of a stream as they come. Raises `Unreachable` when it breaks, when the first one takes more than
        so many seconds, or a later one does; ends when the server ends it."""
        connection = self._connect(first)
        try:
            connection.connect()
            socket = connection.sock
            response = self._send(connection, "GET", path, None, {"Accept": "text/event-stream"})
            if response.status != 200:
                raise Unreachable(f"The stream was answered {response.status}.")
            while line := response.readline(LARGEST):
                yield line
                socket.settimeout(later)
        except (OSError, HTTPException, UnicodeError) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()

    def _connect(self, seconds: float) -> HTTPConnection:
        kind = HTTPSConnection if self.url.scheme == "https" else HTTPConnection
        return kind(self.url.hostname or "", self.url.port, timeout=seconds)

    def _send(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> HTTPResponse:
        more = {"Accept": "application/json", "Connection": "close", **headers}
        if self._token:
            more["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            more["Content-Type"] = "application/json"
        connection.request(method, self.url.path.rstrip("/") + path, body, more)
        return connection.getresponse()

    def _unreachable(self, error: Exception) -> Unreachable:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(f"The runner at {self.address} cannot be reached ({why}).")


def whole(response: HTTPResponse, seconds: float) -> bytes:
    """The body, if it comes in so many seconds. Raises `IncompleteRead`, or `Failed` if it is none of a runner."""
    content, until = bytearray(), time.monotonic() + seconds
    while part := response.read1(1 << 20):
        content += part
        if len(content) > LARGEST or time.monotonic() > until:
            raise Failed("The answer is too long or too slow: is this the address of a runner?")
    if response.length:
        raise IncompleteRead(b"", response.length)
    return bytes(content)


def checked(answer: Answer, raw: bool = False) -> Answer:
    """The answer itself if it is a success. Raises `Unreachable` if it may be one later, otherwise `Refused`."""
    if 200 <= answer.status < 300 or answer.status == 304:
        if not raw and answer.status != 304:
            answer.json()
        return answer
    detail = answer.detail()
    if answer.status in NOT_NOW or (answer.status in OF_A_PROXY and not detail):
        raise Unreachable(f"The runner answered {answer.status}. {detail}".rstrip())
    raise Refused(answer.status, detail or f"The runner answered {answer.status}.")
