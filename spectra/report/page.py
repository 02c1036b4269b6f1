"""One self-contained HTML file: template, styles, scripts and data, under a strict Content-Security-Policy.

The charting bundle is inlined once. Expressions run in Vega's interpreter (`ast: true`), so the policy needs neither
'unsafe-eval' nor 'unsafe-inline': scripts and styles are allowed by the hash of their text.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import altair as alt
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spectra.report.figures.figure import Figure
from spectra.report.tables.html_tables import HtmlTable
from spectra.report.tables.packed import packed, script_json
from spectra.report.text.definitions import DEFINITIONS
from spectra.report.tiles import Tile
from spectra.report.version import page_version

# Marks that turn the direction of all text after them: in a name they could make a sentence read backwards.
DIRECTION_CONTROLS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))


@dataclass(frozen=True)
class Section:
    """A part of the page, folded until it is opened: sentences, figures, then tables, under one heading."""

    identity: str
    heading: str
    lead: str = ""
    sentences: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[HtmlTable, ...] = ()
    # A block of the template that stands at the top of the section, such as the panel of an opened matrix.
    block: str = ""


@dataclass(frozen=True)
class Page:
    """Everything that the template prints.

    Attributes:
        title: The page's heading.
        kind: What the report is of, in words.
        subject: What was tuned on what: a heading and its text.
        tiles: The figures of the first screen.
        findings: The sentences of the first screen, three at most.
        first: The chart of the first screen, as a section without a heading; None without one.
        warnings: What a reader must know.
        sections: In the order of a reader's questions.
        facts: Settings, versions, hardware: heading to text.
        command: The command that makes the page again.
        extras: Further data for the page's script, by name.
        context: Further values for the template's blocks.
    """

    title: str
    kind: str
    findings: Sequence[str]
    sections: Sequence[Section]
    subject: Mapping[str, str] = field(default_factory=dict)
    tiles: Sequence[Tile] = ()
    first: Section | None = None
    warnings: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    extras: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)


def render(page: Page) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("spectra.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = [*([page.first] if page.first else []), *page.sections]
    figures = [figure for section in drawn for figure in section.figures]
    style, script, bundle = _file("page.css"), _file("page.js"), chart_bundle() if figures else ""
    data = {
        "figures": {
            figure.identity: {
                "spec": figure.specification(),
                "table": packed(figure.table, figure.digits),
                "headings": dict(figure.headings),
                "panel": figure.panel,
                "beside": figure.beside,
                "legend": [len(label) for label in figure.legend],
            }
            for figure in figures
        },
        **page.extras,
    }
    html = environment.get_template("page.html").render(
        page=page,
        policy=policy(scripts=(bundle, script), styles=(style,)),
        style=Markup(style),
        bundle=Markup(bundle),
        script=Markup(script),
        data=Markup(script_json(data)),
        definitions=[one for one in DEFINITIONS if not one.kinds or any(kind in page.kind for kind in one.kinds)],
        version=page_version(),
        **page.context,
    )
    return html.translate(dict.fromkeys(DIRECTION_CONTROLS, "\N{REPLACEMENT CHARACTER}"))


def policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """A policy under which the page can run its own scripts, and load or send nothing."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(_hash(script) for script in scripts)}",
            f"style-src {' '.join(_hash(style) for style in styles)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _file(name: str) -> str:
    return resources.files("spectra.report").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def chart_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, of the version that Altair's specifications are written for."""
    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    # The stub file asks for a snippet, the function does not.
    bundle = str(vl_convert.javascript_bundle(vl_version=version))  # type: ignore[call-arg]
    # Inside an element, only these two sequences could end or confuse the script.
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
