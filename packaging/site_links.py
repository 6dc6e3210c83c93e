"""For mkdocs.yml: a link that leaves docs/ becomes its text with the file's place in the checkout, which the site does not hold."""
import posixpath
import re


def on_page_markdown(markdown, page, **_):
    here = posixpath.dirname(page.file.src_uri)

    def inside(match):
        text, target = match.groups()
        place = posixpath.normpath(posixpath.join("docs", here, target.partition("#")[0]))
        return match.group(0) if place.startswith("docs/") else f"{text} (`{place}`)"

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)\s]+)\)", inside, markdown)
