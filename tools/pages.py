"""Hooks of MkDocs: the pages of docs/ as a site.

The pages are written to be read in the repository: links go to files, also to files outside of
docs/, and the list of pages is docs/README.md.  Here the site's navigation is made of that list,
and each file that a page links to is put into the site, as a page in the folder `repository`.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import pictures

_LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s:]+)(#[^)\s]*)?\)")
_PICTURE = re.compile(r"^!\[[^\]]*\]\(pictures/(\w+)\.svg\)$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
_PAGE = re.compile(r"^- \[(.+?)\]\((\w+\.md)\)", re.MULTILINE)


def navigation(index: str) -> list[dict[str, Any]]:
    """Return MkDocs's `nav` of the page that lists all pages: its sections with their pages."""
    sections = [
        {title: [{name: page} for name, page in _PAGE.findall(body)]}
        for title, body in _SECTION.findall(index)
    ]
    return [{"Pages": "README.md"}, *(section for section in sections if any(section.values()))]


def site_path(path: str) -> str:
    """Return the path of a file of the repository within the site's sources."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" if path.endswith(".md") else f"repository/{path}.md"


class Site:
    """The pages of docs/ and the files of the repository that they link to.

    Attributes:
        pages: The text of each page, by its path within the site's sources.
    """

    def __init__(self, root: Path):
        self._root = root
        self.pages: dict[str, str] = {}
        waiting = [f"docs/{page.name}" for page in sorted((root / "docs").glob("*.md"))]
        while waiting:
            path = waiting.pop()
            if site_path(path) in self.pages:
                continue
            text = (root / path).read_text(encoding="utf-8")
            if path.endswith(".md"):
                self.pages[site_path(path)], linked = self._linked(path, text)
                waiting += linked
            else:
                name = posixpath.basename(path)
                language = "python" if path.endswith(".py") else "text"
                self.pages[site_path(path)] = f"# {name}\n\n```{language}\n{text}```\n"

    def _linked(self, path: str, text: str) -> tuple[str, list[str]]:
        """Return a page with its links as the site has them, and the files that they lead to."""
        here = posixpath.dirname(site_path(path))
        linked: list[str] = []

        def link(found: re.Match[str]) -> str:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), found[2]))
            if target.endswith(".svg"):  # a picture, of which docs/ has the file
                there = posixpath.relpath(target.removeprefix("docs/"), here or ".")
                return f"[{found[1]}]({there})"
            if not (self._root / target).is_file():
                return found[1]  # a folder: the site has its files only
            linked.append(target)
            there = posixpath.relpath(site_path(target), here or ".")
            return f"[{found[1]}]({there}{found[3] or ''})"

        parts, last = [], 0
        for fence in _FENCE.finditer(text):  # code has no links
            parts += [_LINK.sub(link, text[last : fence.start()]), fence[0]]
            last = fence.end()
        return "".join([*parts, _LINK.sub(link, text[last:])]), linked


def on_config(config: Any) -> Any:
    """Take the navigation from docs/README.md."""
    index = Path(config["docs_dir"], "README.md").read_text(encoding="utf-8")
    config["nav"] = navigation(index)
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """Replace the pages by those with the site's links, and add the files that they link to."""
    from mkdocs.structure.files import File

    for path, text in Site(Path(config["docs_dir"]).parent).pages.items():
        old = files.get_file_from_path(path)
        if old is not None:
            files.remove(old)
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Show each picture that ``docs/pictures`` has also as the page that `ksym.draw` makes."""
    return _PICTURE.sub(
        r"""\g<0>

<iframe src="../pictures/\1.html" title="The graph, to look around in" loading="lazy"
style="width: 100%; height: 32rem; border: 1px solid #8888"></iframe>
""",
        markdown,
    )


def on_post_build(*, config: Any) -> None:
    """Draw the graphs of the pictures as pages."""
    pictures.draw(Path(config["site_dir"], "pictures"), ".html")
