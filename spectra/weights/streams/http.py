"""Requests over HTTP that are made again where they fail, and end in one sentence where that does not help."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import requests
import urllib3

from spectra.errors import CheckpointError
from spectra.weights.streams.far_file import Traffic

# Consecutive failures that are waited out, the first for this long and each further one for twice as long.
ATTEMPTS = 6
# Of texts, which come first and tell that nobody answers.
FIRST_ATTEMPTS = 3
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
CONNECT_SECONDS = 10.0
# Silence that counts as a failure; a server that drips must send at least so much in as long.
SILENCE_SECONDS = 30.0
LEAST_BYTES = 1 << 14
STEP_BYTES = 1 << 18
REDIRECTS = 10

TRANSIENT = {408, 425, 429, 500, 502, 503, 504}

T = TypeVar("T")


class CutError(Exception):
    """A request that failed in a way that another try may mend.

    Attributes:
        wait_seconds: How long the server asks to wait; 0 where it does not.
    """

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        """Say why, without an address: signed ones are secret."""
        super().__init__(reason)
        self.wait_seconds = wait_seconds


@dataclass(eq=False)
class Http:
    """How one place is asked.

    Attributes:
        headers: Gives headers that only the first server of a chain of redirects may see: the login.
        traffic: Where bytes are counted.
        remedy: What to do where access is refused.
    """

    traffic: Traffic
    headers: Callable[[], Mapping[str, str]] = dict
    remedy: str = "Check the address, and that you may read it."
    _own: threading.local = field(default_factory=threading.local, init=False, repr=False)

    def get(self, url: str, shown: str, range_header: str | None = None) -> requests.Response:
        """Ask; the body waits to be read.

        Raises:
            CutError: If another try may help.
            CheckpointError: If none will.
        """
        headers = {**self.headers(), "Accept-Encoding": "identity", **({"Range": range_header} if range_header else {})}
        self.traffic.add(requests=1)
        try:
            answer = self._session.get(
                url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, _silence()), allow_redirects=True
            )
        except requests.TooManyRedirects as error:
            raise CheckpointError(f"The server sends on '{shown}' without end. Check the address.") from error
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise CheckpointError(f"'{shown}' is no address that can be read. Check it.") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise CutError(_reason(error)) from None
        if url.startswith("https:") and not answer.url.startswith("https:"):
            answer.close()
            raise CheckpointError(f"The server sends on '{shown}' without encryption. Do not use this address.")
        if answer.status_code in (200, 206):
            return answer
        answer.close()
        if answer.status_code in TRANSIENT:
            raise CutError(f"status {answer.status_code}", _seconds(answer.headers.get("Retry-After")))
        raise self._refused(answer.status_code, shown)

    def persistently(self, shown: str, attempt: Callable[[], T], attempts: int | None = None) -> T:
        """The result of an attempt, which is made again where it is cut."""
        patience = Patience(shown, self.traffic) if attempts is None else Patience(shown, self.traffic, attempts)
        while True:
            try:
                return attempt()
            except CutError as cut:
                patience.wait(cut)

    def whole(self, url: str, shown: str, limit_bytes: int) -> bytes | None:
        """A small text; None where there is none.

        Raises:
            CheckpointError: If it is larger than the limit, or cannot be read.
        """

        def attempt() -> bytes | None:
            try:
                answer = self.get(url, shown)
            except AbsentError:
                return None
            body, content = Body(answer, self.traffic), bytearray()
            try:
                while step := body.step(STEP_BYTES):
                    content += step
                    if len(content) > limit_bytes:
                        raise CheckpointError(
                            f"'{shown}' has more than the {limit_bytes} bytes that are read. Check it."
                        )
            finally:
                body.close()
            expected = answer.headers.get("Content-Length")
            if expected is not None and expected.isdecimal() and len(content) != int(expected):
                raise CutError("it ended too early")
            return bytes(content)

        return self.persistently(shown, attempt, FIRST_ATTEMPTS)

    def _refused(self, status: int, shown: str) -> CheckpointError:
        if status in (404, 410):
            return AbsentError(f"'{shown}' does not exist on the server (status {status}). Check name and revision.")
        if status in (401, 403):
            return DeniedError(f"The server refuses '{shown}' (status {status}). {self.remedy}")
        if status == 416:
            return CheckpointError(f"'{shown}' is shorter than it was. Run again.")
        return CheckpointError(f"The server answers status {status} for '{shown}'. Check the address.")

    @property
    def _session(self) -> requests.Session:
        """A session of this thread, which keeps its connections open."""
        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
            self._own.session.max_redirects = REDIRECTS
        return self._own.session


class AbsentError(CheckpointError):
    """The server knows no such file."""


class DeniedError(CheckpointError):
    """The server knows the file and refuses it, or does not say whether it knows it."""


@dataclass
class Patience:
    """How often a failure is waited out."""

    shown: str
    traffic: Traffic
    attempts: int = field(default_factory=lambda: ATTEMPTS)
    failures: int = 0

    def wait(self, cut: CutError) -> None:
        """Wait before the next attempt.

        Raises:
            CheckpointError: If there have been enough.
        """
        self.failures += 1
        if self.failures >= self.attempts:
            raise CheckpointError(
                f"'{self.shown}' could not be read in {self.failures} attempts ({cut}). "
                "Run the same command again later; with the cache, a scan goes on where it was."
            ) from cut
        self.traffic.add(retries=1)
        patience = FIRST_WAIT_SECONDS * 2 ** (self.failures - 1)
        time.sleep(min(max(patience, cut.wait_seconds), LONGEST_WAIT_SECONDS))


class Body:
    """The body of an answer while it is read."""

    def __init__(self, answer: requests.Response, traffic: Traffic, stop: int = 0) -> None:
        """Nothing is read yet.

        Args:
            answer: The answer.
            traffic: Where bytes are counted.
            stop: The place in the file where it ends, where a reader may go on from it.
        """
        self.answer, self.traffic, self.stop = answer, traffic, stop
        self._since, self._lately = time.monotonic(), 0

    def step(self, count: int) -> bytes:
        """At most so many of the next bytes; none at the end.

        Raises:
            CutError: If the connection fails, is silent, or drips.
        """
        raw = self.answer.raw
        try:
            step: bytes = raw.read1(count, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
            raise CutError(_reason(error)) from None
        self.traffic.add(read_bytes=len(step))
        self._lately += len(step)
        if time.monotonic() - self._since > _silence():
            if self._lately < LEAST_BYTES and step:
                raise CutError(f"{self._lately} bytes in {_silence():g} seconds")
            self._since, self._lately = time.monotonic(), 0
        return step

    def close(self) -> None:
        """Read no further."""
        self.answer.close()


def _silence() -> float:
    """Seconds without an answer that count as a failure: those that the hub's own client is told, or the usual ones."""
    told = os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", "")
    return float(told) if told.replace(".", "", 1).isdecimal() and float(told) > 0 else SILENCE_SECONDS


def _seconds(told: str | None) -> float:
    return float(told) if told is not None and told.strip().isdecimal() else 0.0


def _reason(error: Exception) -> str:
    """A few words for a failed connection; never its own message, which may hold a signed address."""
    words = {
        "ReadTimeout": "no answer in time",
        "ReadTimeoutError": "no answer in time",
        "ConnectTimeout": "no connection in time",
        "SSLError": "the certificate is not accepted",
        "ProxyError": "the proxy does not answer",
        "ConnectionError": "no connection",
        "ProtocolError": "the connection was cut",
        "IncompleteRead": "the connection was cut",
    }
    return words.get(type(error).__name__, type(error).__name__)
