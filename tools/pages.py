"""Hooks of MkDocs: the pages of docs/ as a site.

The pages are written to be read in the repository.  So links go to files, also to files outside of
docs/, and the list of pages is docs/README.md.  Here the site's navigation is made of that list,
and links out of docs/ become links to the repository.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

_OUTSIDE = re.compile(r"(?<=\]\()\.\./([^)#\s]+)")
_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
_PAGE = re.compile(r"^- \[(.+?)\]\((\w+\.md)\)", re.MULTILINE)


def navigation(index: str) -> list[dict[str, Any]]:
    """Return MkDocs's `nav` of the page that lists all pages: its sections with their pages."""
    sections = [
        {title: [{name: page} for name, page in _PAGE.findall(body)]}
        for title, body in _SECTION.findall(index)
    ]
    return [{"Pages": "README.md"}, *(section for section in sections if any(section.values()))]


def in_repository(markdown: str, url: str) -> str:
    """Return a page whose links out of docs/ lead to files at the repository's address."""
    return _OUTSIDE.sub(lambda match: posixpath.join(url, "blob/main", match[1]), markdown)


def on_config(config: Any) -> Any:
    """Take the navigation from docs/README.md."""
    with open(posixpath.join(config["docs_dir"], "README.md"), encoding="utf-8") as file:
        config["nav"] = navigation(file.read())
    return config


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Turn links to files outside of docs/ into links to the repository."""
    return in_repository(markdown, config["repo_url"])
