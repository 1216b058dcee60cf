"""Renders a page in headless chromium; prints what its script made of it. browser.py PAGE PICTURE.png [--dark]"""
import html.parser
import subprocess
import sys
import tempfile
import zlib

page, picture = sys.argv[1:3]


def chromium(*arguments):
    with tempfile.TemporaryDirectory() as profile:
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   "--user-data-dir=" + profile, "--window-size=1240,2600", *arguments, "file://" + page]
        if "--dark" in sys.argv:
            command.insert(1, "--force-dark-mode")
            command.insert(1, "--blink-settings=preferredColorScheme=0")
        return subprocess.run(command, capture_output=True, check=True, timeout=120).stdout


class Dom(html.parser.HTMLParser):
    """Counts elements below each element with an id."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.counts, self.root, self.links = [], {}, {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "html":
            self.root = attributes
        self.links += [f"{tag} {name}={value}" for name, value in attributes.items()
                       if name in ("src", "href", "xlink:href", "action")]
        for name in self.ids:
            if name:
                self.counts[name, tag] = self.counts.get((name, tag), 0) + 1
        if tag not in ("meta", "br", "img", "input", "link"):
            self.ids.append(attributes.get("id"))

    def handle_endtag(self, tag):
        if tag not in ("meta", "br", "img", "input", "link") and self.ids:
            self.ids.pop()


def colours(path):
    """Distinct bytes in the unpacked picture: a blank page has next to none."""
    data, at, packed = open(path, "rb").read(), 8, b""
    while at < len(data):
        size = int.from_bytes(data[at:at + 4], "big")
        if data[at + 4:at + 8] == b"IDAT":
            packed += data[at + 8:at + 8 + size]
        at += 12 + size
    return len(set(zlib.decompress(packed)))


text = chromium("--dump-dom").decode()
dom = Dom(text)
chromium("--screenshot=" + picture)
print("report:", dom.root.get("data-report"), "tensors:", dom.root.get("data-tensors"))
for name, tag in (("memory", "path"), ("arena", "rect"), ("pareto", "circle"), ("memory-detail", "tr")):
    print(f"{name}: {dom.counts.get((name, tag), 0)} {tag}")
print("links:", dom.links)
print("picture:", "drawn" if colours(picture) > 100 else "blank")
