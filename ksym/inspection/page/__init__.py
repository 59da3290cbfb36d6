"""The page of a graph: one file of HTML with all that it needs inside."""

from __future__ import annotations

import html
import importlib.resources
import json
import re
from typing import Any

from ksym.inspection.picture import Picture


def page_of(picture: Picture, folded: bool) -> str:
    """Return the page of a graph.

    Args:
        picture: The graph.
        folded: Whether all boxes are closed at first.
    """
    # No text of the graph can end the element that it is in.
    graph = json.dumps(_data(picture, folded), separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(picture.title),
        "style": _read("page.css"),
        "graph": graph,
        "licences": _read("LICENCES.txt").replace("--", "- -"),
        "viz": _read("viz-global.js"),
        "panzoom": _read("svg-pan-zoom.min.js"),
        "script": _read("page.js"),
    }
    return re.sub("@([a-z]+)@", lambda found: parts[found[1]], _read("page.html"))


def _read(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text("utf-8")


def _data(picture: Picture, folded: bool) -> dict[str, Any]:
    """Return what the page's script reads."""
    return {
        "title": picture.title,
        "timed": picture.timed,
        "open": [] if folded else list(range(len(picture.boxes))),
        "groups": [
            {"name": b.name, "count": b.count, "gradient": b.gradient, "share": round(b.share, 5)}
            for b in picture.boxes
        ],
        "nodes": [
            {
                "label": node.label,
                "name": node.name,
                "operator": node.operator,
                "kind": node.kind,
                "specs": node.specs,
                "attributes": node.attributes,
                "origin": node.origin,
                "scope": node.scope,
                "path": node.path,
                "part": node.part,
                **({} if node.flops is None else {"flops": node.flops, "bytes": node.traffic}),
                **({} if node.share is None else {"share": node.share, "seconds": node.seconds}),
            }
            for node in picture.nodes
        ],
        "edges": [[e.source, e.target, e.spec, int(e.dashed)] for e in picture.edges],
    }
