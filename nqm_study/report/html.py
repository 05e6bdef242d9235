"""HTML documents with charts by Plotly: one file each, that works from disk and asks no server.

Plotly's script is in each file, packed: 2.0 MB, for 4.8 MB as ``write_html`` would have it. It
cannot be shared. MLflow shows a document in a frame that has no address, so none beside it is
found, and it serves scripts as plain text, which browsers refuse to run.
"""

from __future__ import annotations

import base64
import gzip
import re
from functools import cache
from html import escape
from string import Template

from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

_DOCUMENT = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 1rem auto; }
body { max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.2rem; }
$style</style>
</head>
<body>
<h1>$title</h1>
$body
<!--
$notice
-->
<script type="application/gzip" id="plotly">$plotly</script>
<script>
"use strict";
const packed = atob(document.getElementById("plotly").textContent);
const stream = new Blob([Uint8Array.from(packed, (letter) => letter.charCodeAt(0))]).stream();
new Response(stream.pipeThrough(new DecompressionStream("gzip"))).text().then((text) => {
  const script = document.createElement("script");
  script.textContent = text;
  document.head.append(script);
  // What a template holds runs when it is put into the page.
  for (const held of document.querySelectorAll("template")) {
    held.parentElement.replaceChildren(held.content);
  }
});
</script>
</body>
</html>
""")

_CONFIG = {
    "displaylogo": False,
    # Named one by one: among Plotly's own is one that would send the chart to a server.
    "modeBarButtons": [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
}


def document(title: str, body: str, style: str = "") -> str:
    """Write a complete HTML document that draws the charts in its body.

    Args:
        title: plain text, which is above the body as well.
        body: HTML, with charts by ``chart``.
        style: CSS.
    """
    plotly, notice = _packed_plotly()
    return _DOCUMENT.substitute(
        title=escape(title), body=body, style=style, plotly=plotly, notice=notice
    )


def chart(figure: Figure, name: str, height: str = "450px", **options: object) -> str:
    """Write a chart as HTML for the body of ``document``; the same figure gives the same text.

    Args:
        figure: the chart.
        name: the element's identifier, another for each chart of a document.
        height: as in CSS.
        options: of Plotly's ``to_html``.
    """
    held = figure.to_html(
        config=_CONFIG,
        include_plotlyjs=False,
        full_html=False,
        div_id=name,
        default_height=height,
        **options,
    )
    missing = "The chart needs JavaScript, and a browser of 2023 or later. The words do not."
    # What Optuna draws wider than a page is scrolled by itself.
    return f'<div style="overflow-x: auto">{missing}<template>{held}</template></div>'


@cache
def _packed_plotly() -> tuple[str, str]:
    """Plotly's script packed as text, and its copyright notice, which its licence asks to keep."""
    script = get_plotlyjs()
    found = re.match(r"/\*\*.*?\*/", script, re.DOTALL)
    packed = base64.b64encode(gzip.compress(script.encode(), compresslevel=6, mtime=0)).decode()
    return packed, escape(found.group(0) if found else "plotly.js, MIT license")
