"""Stages the sources of the book (`stage DIRECTORY`), and finishes and checks the built book (`check DIRECTORY`).

The pages of the book are the documents of the repository, at their own paths, so their links to each other work as they
are. What they link to beside pages is copied into the book. See .ci/book."""

import html
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from posixpath import normpath
from urllib.parse import unquote, urlsplit

CONTENTS = "docs/SUMMARY.md"
RUSSIAN = "docs/ru"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def resolve(page, target):
    """Returns the path that a link on a page leads to: None for an address, the page itself for a bare fragment."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return None
    return normpath(Path(page).parent / unquote(parts.path)) if parts.path else page


def links(page):
    """Returns the paths that a document links to."""
    targets = LINK.findall(Path(page).read_text(encoding="utf-8"))
    return {path for target in targets if (path := resolve(page, target)) not in (None, page)}


def repository():
    """Returns the paths of all files but those that Git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    return [path for path in listed.split("\0") if Path(path).is_file()]


def listing(directory, files):
    """Returns the page of a directory that has no README.md."""
    below = [path.removeprefix(f"{directory}/") for path in files if path.startswith(f"{directory}/")]
    names = sorted({name.partition("/")[0] + "/" * ("/" in name) for name in below})
    rows = "".join(f'<li><a href="{html.escape(name)}">{html.escape(name)}</a></li>\n' for name in names)
    title = html.escape(directory)
    head = f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n<h1>{title}</h1>\n'
    return f"{head}<ul>\n{rows}</ul>\n"


def stage(into):
    """Copies the pages, what they link to, and the table of contents. Returns what is wrong with that table."""
    files = repository()
    pages = {path for path in files if path.endswith(".md") and not path.startswith(".github/")} - {CONTENTS}
    listed = links(CONTENTS)
    errors = [f"{CONTENTS} does not list {page}" for page in sorted(pages - listed)]
    errors += [f"{CONTENTS} lists {page}, which is no page" for page in sorted(listed - pages)]

    linked = {path for page in pages for path in links(page)}
    directories = [path for path in linked if Path(path).is_dir() and f"{path}/README.md" not in pages]
    within = {path for path in files for directory in directories if path.startswith(f"{directory}/")}
    copied = pages | (linked & set(files)) | within | {CONTENTS}
    for path in copied:
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, into / path)

    parents = {str(parent) for path in within for parent in Path(path).parents}
    for parent in parents:
        if any(f"{parent}/".startswith(f"{directory}/") for directory in directories):
            (into / parent / "index.html").write_text(listing(parent, within), encoding="utf-8")

    # mdBook wants the table of contents at the top of the sources. As it stands, it is the last page.
    contents = LINK.sub(lambda link: f"]({resolve(CONTENTS, link[1])})", Path(CONTENTS).read_text(encoding="utf-8"))
    (into / "SUMMARY.md").write_text(f"{contents}\n---\n\n[Contents]({CONTENTS})\n", encoding="utf-8")
    return errors


class Page(HTMLParser):
    """What a page of the book links to and loads, and where links can lead on it."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            elif name == "href" and tag == "a":
                self.links.append(value)
            elif name in ("href", "src"):
                self.loads.append(value)


def finish(book):
    """Gives each directory with a README the page that a link to the directory shows, and Russian pages their language."""
    for readme in book.rglob("README.html"):
        shutil.copyfile(readme, readme.with_name("index.html"))
    for page in book.glob(f"{RUSSIAN}/**/*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace('<html lang="en"', '<html lang="ru"', 1), encoding="utf-8")


def check(book):
    """Returns which links of the finished book lead nowhere, and what its pages load from elsewhere."""
    finish(book)
    pages = {path.relative_to(book).as_posix(): Page(path) for path in book.rglob("*.html")}
    copies = {name for name in pages if name.replace("index.html", "README.html") in pages.keys() - {name}}
    errors, count = [], 0

    for name in sorted(pages.keys() - copies):
        page = pages[name]
        for target in page.links + page.loads:
            count += 1
            parts = urlsplit(target)
            path = resolve(name, target)
            if path is None:
                is_address = parts.scheme == "mailto" or (parts.scheme in ("http", "https") and parts.netloc)
                if not is_address:
                    errors.append(f"{name}: {target} is no address of a page")
                elif target in page.loads:
                    errors.append(f"{name}: {target} is loaded from elsewhere")
                continue
            if (book / path).is_dir():
                path = f"{path}/index.html"
            if not (book / path).is_file():
                errors.append(f"{name}: {target} leads to no file of the book")
            elif parts.fragment and (path not in pages or unquote(parts.fragment) not in pages[path].ids):
                errors.append(f"{name}: {target} leads to no heading of {path}")

    print(f"the book: {len(pages) - len(copies)} pages, {count} links checked")
    return errors


if __name__ == "__main__":
    step = {"stage": stage, "check": check}[sys.argv[1]]
    problems = step(Path(sys.argv[2]))
    print("\n".join(problems), file=sys.stderr, end="\n" * bool(problems))
    sys.exit(bool(problems))
