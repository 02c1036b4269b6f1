"""Ranges of bytes over HTTP: what is asked for is what must come, of the same version, however often it is cut."""

import re
import threading
from pathlib import Path

import requests

from spectra.errors import CheckpointError
from spectra.weights.streams.far_file import FarFile
from spectra.weights.streams.http import Body, CutError, Http, Patience

# So much without a failure, and failures are counted anew.
PROGRESS_BYTES = 1 << 20
# Taken from a connection at once.
STEP_BYTES = 1 << 18
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class HttpFile(FarFile):
    """A file behind an address."""

    # What a thread has begun to read and goes on with: the file, the next place and the body.
    _going_on = threading.local()

    def __init__(self, url: str, shown: Path, http: Http, commit: str | None = None) -> None:
        """Nothing is asked yet.

        Args:
            url: Its address.
            shown: What stands for it in messages.
            http: How its server is asked.
            commit: The commit that the server has to confirm, where it names one.
        """
        super().__init__(shown, http.traffic)
        self.url, self.http, self.commit = url, http, commit

    def first(self, count: int) -> tuple[bytes, int, str]:
        """The first bytes, the size and the version."""

        def attempt() -> tuple[bytes, int, str]:
            answer = self.http.get(self.url, str(self.shown), f"bytes=0-{count - 1}")
            body = Body(answer, self.traffic)
            try:
                begin, end, size = self._range(answer)
                if begin != 0 or end + 1 != min(count, size):
                    raise self._wrong_range()
                content = bytearray()
                while len(content) < end + 1:
                    step = body.step(end + 1 - len(content))
                    if not step:
                        raise CutError("it ended too early")
                    content += step
                return bytes(content), size, self._version(answer)
            finally:
                body.close()

        return self.http.persistently(str(self.shown), attempt)

    def read(self, offset: int, buffer: memoryview, until: int) -> None:
        """Fill a buffer from one place on; a reader who goes on from there gets the rest by one request more."""
        patience = Patience(str(self.shown), self.traffic)
        filled = since = 0
        while filled < len(buffer):
            try:
                body = self._body(offset + filled, offset + len(buffer), until)
                while filled < len(buffer):
                    step = body.step(min(STEP_BYTES, len(buffer) - filled))
                    if not step:
                        raise CutError("the connection was cut")
                    buffer[filled : filled + len(step)] = step
                    filled += len(step)
                    if filled - since >= PROGRESS_BYTES:
                        patience.failures, since = 0, filled
            except CutError as cut:
                self._leave()
                patience.wait(cut)
            except BaseException:
                self._leave()
                raise
        self._pause(offset + filled, until)

    def _body(self, start: int, stop: int, until: int) -> Body:
        """The body that goes on at a place: the one at hand, or that of a new request."""
        own = HttpFile._going_on
        goes_on = getattr(own, "place", None) == (id(self), start)
        if goes_on and own.body is not None and own.body.stop >= stop:
            return own.body
        self._leave()
        end = until if goes_on else stop
        answer = self.http.get(self.url, str(self.shown), f"bytes={start}-{end - 1}")
        body = Body(answer, self.traffic, end)
        try:
            if self._range(answer) != (start, end - 1, self.size):
                raise self._wrong_range()
            if self._version(answer) != self.version:
                raise self.changed()
        except BaseException:
            body.close()
            raise
        own.file, own.body = self, body
        return body

    def _pause(self, place: int, until: int) -> None:
        """Remember where this thread is; an answer that is read to its end is closed."""
        own = HttpFile._going_on
        own.place = (id(self), place) if place < until else None
        if own.body is not None and own.body.stop == place:
            own.body.close()
            own.body = None

    def _leave(self) -> None:
        """Close what this thread was reading, whichever file it was of."""
        own = HttpFile._going_on
        if getattr(own, "body", None) is not None:
            own.body.close()
        own.body, own.place = None, None

    def _range(self, answer: requests.Response) -> tuple[int, int, int]:
        """First byte, last byte and size of the file, as the answer says."""
        if answer.status_code != 206:
            raise CheckpointError(
                f"The server of '{self.shown}' ignores which bytes it is asked for (status {answer.status_code} and no "
                "206). Download the checkpoint and give its folder."
            )
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise CheckpointError(
                f"The server of '{self.shown}' sends compressed ranges. Download the checkpoint and give its folder."
            )
        told = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if told is None:
            raise self._wrong_range()
        return int(told[1]), int(told[2]), int(told[3])

    def _wrong_range(self) -> CheckpointError:
        return CheckpointError(
            f"The server of '{self.shown}' sends other bytes than it was asked for, or of a file of another size. "
            "Run again; if it persists, download the checkpoint and give its folder."
        )

    def _version(self, answer: requests.Response) -> str:
        """The commit and the ETag, of the first server that tells one.

        A hub tells the ETag of the content itself and sends on to a store with ETags of its own.
        """
        chain = [each.headers for each in (*answer.history, answer)]
        commits = {told["X-Repo-Commit"] for told in chain if "X-Repo-Commit" in told}
        if self.commit is not None and commits - {self.commit}:
            raise CheckpointError(
                f"The server gives '{self.shown}' of another commit than the one that was opened. Run again."
            )
        for told in chain:
            for name in ("X-Linked-ETag", "ETag"):
                if told.get(name):
                    return told[name].removeprefix("W/").strip('"')
        return next((told["Last-Modified"] for told in chain if told.get("Last-Modified")), "")
