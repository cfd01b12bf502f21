"""A report's page, taken apart."""

from __future__ import annotations

import base64
import html.parser


class Page(html.parser.HTMLParser):
    """A page taken apart."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.tags, self.images, self.links, self.words = [], [], [], []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.said = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "img":
            self.images.append(dict(attributes))
        if tag == "a":
            self.links.append(dict(attributes)["href"])

    def handle_data(self, data):
        if self.lasttag != "style":
            self.words.append(data)

    def pictures(self):
        """The content of every picture in it."""
        return [base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) for image in self.images]

    def files(self):
        """Names of the pictures beside it."""
        return sorted(path.stem for path in self.path.parent.glob("*.png"))
