"""The page: one HTML file that needs nothing but itself; every text that comes from outside is escaped."""

import base64
import html
from collections.abc import Sequence
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1a1a1a; overflow-wrap: break-word;
  font: 16px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 76rem; margin: 0 auto; padding: 0 12px; }
h1 { font-size: 1.5rem; margin: 1rem 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 2px solid #0072B2; padding-bottom: .2rem; }
p { margin: .5rem 0; max-width: 48rem; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .85rem; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: .9rem; margin: .6rem 0; }
nav a { color: #005a8c; padding: .2rem 0; }
/* A shade at an edge beyond which a table goes on; the white, which goes with the table, covers it at the end. */
.scroll { overflow-x: auto; background: linear-gradient(90deg, #fff 40%, #fff0) 0 0 / 2rem 100% no-repeat local,
  linear-gradient(270deg, #fff 40%, #fff0) 100% 0 / 2rem 100% no-repeat local,
  linear-gradient(90deg, #bbb, #fff0) 0 0 / .6rem 100% no-repeat scroll,
  linear-gradient(270deg, #bbb, #fff0) 100% 0 / .6rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .875rem; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .45rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
th.text, td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 6.5rem; }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); gap: 1rem; }
figure { margin: 0; break-inside: avoid; max-width: 26rem; }
figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; color: #444; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.4rem, 1fr)); gap: .4rem; margin: .6rem 0; }
.card { border: 3px solid transparent; padding: 3px; font-size: .8rem; line-height: 1.3; overflow-wrap: anywhere;
  break-inside: avoid; }
.card.wrong { border-color: #D55E00; }
.card img { width: 100%; height: auto; display: block; border: 1px solid #ccc; image-rendering: pixelated; }
.card small { color: #555; display: block; }
.strip { display: flex; flex-wrap: wrap; gap: 4px; margin: .2rem 0 .8rem; }
.strip img { width: 3.6rem; height: auto; border: 1px solid #ccc; image-rendering: pixelated; }
h3 { font-size: 1rem; margin: .8rem 0 .2rem; overflow-wrap: anywhere; }
.absent { color: #555; border-left: 4px solid #bbb; padding: .2rem .6rem; }
.warning { border-left: 4px solid #D55E00; background: #fdf1ea; padding: .4rem .6rem; }
pre { max-height: 24rem; overflow: auto; background: #f5f5f5; padding: .6rem; white-space: pre-wrap; }
pre span { display: inline-block; max-width: 100%; }
footer { color: #555; font-size: .85rem; margin: 2rem auto; border-top: 1px solid #ccc; padding-top: .5rem; }
@media (max-width: 30rem) {
  table { font-size: .75rem; }
  th, td { padding: .25rem; }
  th { white-space: normal; }
}
@media print {
  @page { margin: 14mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  nav { display: none; }
  body { font-size: 10.5pt; }
  header, main, footer { padding: 0; max-width: none; }
  .scroll { overflow: visible; background: none; }
  table { font-size: 8.5pt; break-inside: avoid; }
  th, td { white-space: normal; }
  th.text, td.text { min-width: 4rem; }
  tr { break-inside: avoid; }
  pre { max-height: none; overflow: visible; font-size: 7.5pt; }
  pre.long { columns: 3; }
  .figures { grid-template-columns: 1fr 1fr; }
  h2, h3, p:has(+ .scroll), p:has(+ .figures), p:has(+ .cards), p:has(+ pre) { break-after: avoid; }
  .warning, .absent, .strip { break-inside: avoid; }
}
"""


class Section(NamedTuple):
    """A part of the page; `body` is HTML."""

    id: str
    title: str
    body: str


def escape(text: object) -> str:
    """Return text as it reads, wherever it came from; bytes of a file name that are no UTF-8 become question marks."""
    return html.escape(str(text).encode("utf-8", "replace").decode("utf-8"), quote=True)


def paragraph(text: object, kind: str = "") -> str:
    """Return a paragraph of plain text; `kind` is "", "absent" or "warning"."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def absent(what: str, how: str) -> str:
    """Return the one line that stands for a part without data: what is missing, and how to get it."""
    return paragraph(f"Not here: {what}. {how}", "absent")


def table(head: Sequence[object], rows: Sequence[Sequence[object]], text: Sequence[int] = ()) -> str:
    """Return a table of plain cells; the first column, and those numbered in `text`, stand left and may break."""

    def cells(tag: str, row: Sequence[object]) -> str:
        kinds = (' class="text"' if n in text else "" for n in range(len(row)))
        words = (_breakable(cell) for cell in row)
        return "".join(f"<{tag}{kind}>{word}</{tag}>" for kind, word in zip(kinds, words, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'


def _breakable(text: object) -> str:
    """Return plain text that may break after _ and /, and not between a number and its percent sign."""
    return escape(text).replace("/", "/<wbr>").replace("_", "_<wbr>").replace(" %", "&nbsp;%")


def typed(command: str) -> str:
    """Return what was typed as HTML, which breaks between words and not at the dashes of a flag."""
    return f"<pre>{' '.join(f'<span>{escape(word)}</span>' for word in command.split(' '))}</pre>"


def picture(svg: bytes, alt: str, caption: str) -> str:
    """Return a figure whose picture is in the page itself."""
    data = base64.b64encode(svg).decode("ascii")
    return (
        f'<figure><img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def photo(png: bytes, alt: str) -> str:
    """Return an image of pixels that is in the page itself."""
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def cards(items: Sequence[tuple[str, str, Sequence[str], bool]]) -> str:
    """Return small pictures with text beneath, as many in a row as the window is wide.

    Args:
        items: (from `photo`, a bold line, further lines, whether it is framed as a mistake) of each; the text is plain.
    """
    cells = []
    for image, bold, lines, wrong in items:
        small = "".join(f"<small>{_breakable(line)}</small>" for line in lines)
        cells.append(f'<div class="card{" wrong" * wrong}">{image}<b>{_breakable(bold)}</b>{small}</div>')
    return f'<div class="cards">{"".join(cells)}</div>'


def figures(pictures: Sequence[str]) -> str:
    """Return pictures side by side as far as the window is wide."""
    return f'<div class="figures">{"".join(pictures)}</div>'


def page(title: str, lead: str, sections: Sequence[Section], foot: str) -> str:
    """Return the whole page.

    Args:
        title: plain text.
        lead: HTML above the first section.
        sections: in order; the list of links follows them.
        foot: plain text.
    """
    links = "".join(f'<a href="#{section.id}">{escape(section.title)}</a>' for section in sections)
    body = "".join(f'<section id="{s.id}"><h2>{escape(s.title)}</h2>{s.body}</section>' for s in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>{lead}<nav>{links}</nav></header>"
        f"<main>{body}</main><footer>{escape(foot)}</footer></body></html>\n"
    )
