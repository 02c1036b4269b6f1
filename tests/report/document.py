"""A page as its parser sees it."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class Document(HTMLParser):
    """Everything that a test asks about a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.raw: list[tuple[str, dict[str, str], str]] = []
        self.tables: dict[str, list[list[tuple[str, str | None]]]] = {}
        self._open: str | None = None
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag in ("script", "style"):
            self.raw.append((tag, attributes, ""))
        if tag == "table":
            self._open = attributes["id"]
            self.tables[self._open] = []
        elif self._open and tag == "tr":
            self.tables[self._open].append([])
        elif self._open and tag in ("td", "th"):
            self.tables[self._open][-1].append(("", attributes.get("data-value")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._open = None

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            tag, attributes, text = self.raw[-1]
            self.raw[-1] = (tag, attributes, text + data)
            return
        self.text += data
        if self._open and self.tables[self._open] and self.tables[self._open][-1]:
            text, value = self.tables[self._open][-1][-1]
            self.tables[self._open][-1][-1] = (text + data.strip("\n"), value)

    @property
    def data(self) -> dict[str, Any]:
        (text,) = (text for _, attributes, text in self.raw if attributes.get("type") == "application/json")
        return json.loads(text)  # type: ignore[no-any-return]

    def column(self, table: str, heading: str) -> list[tuple[str, str | None]]:
        at = [text for text, _ in self.tables[table][0]].index(heading)
        return [row[at] for row in self.tables[table][1:]]
