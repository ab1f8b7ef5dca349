"""Texts that an attacker may choose, and an HTML parser that shows whether one became more than text."""

from html.parser import HTMLParser

HOSTILE = {
    "HTML": "</td><img src=x onerror=alert(1)><script>alert(1)</script>",
    "an attribute": "\" onmouseover='alert(1)' style=\"x",
    "a template": "{{ 7 * 7 }}{% raw %}{# x #}${7*7}",
    "a script link": "javascript:alert(1)",
    "a link": "http://evil.example/x",
    "a mail address": "root@evil.example",
    "a name": "www.evil.example",
    "a name in Cyrillic": "зло.рф",
    "ANSI": "\x1b[2J\x1b[31mred\x9b0m",
    "OSC": "\x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\x",
    "NUL": "a\0b",
    "right-to-left": "\u202egpj.exe\u202c\u2066",
    "zero width": "ro\u200bot\ufeff\u00ad\U000e0041",
    "a lone surrogate": "\ud800\udfff\udcff",
    "line ends": "a\r\nBcc: x@evil.example\r\n\r\nb\x85\u2028\u2029\v\f",
    "tabs": "\t\t",
    "nothing": "",
}


class Page(HTMLParser):
    """A page's elements with their attributes, and its text outside of <title> and <style>.

    <wbr>, which parts a name so that no mail program links it, is not an element here: only `parted` tells of it.
    """

    def __init__(self, html: str) -> None:
        """Parse a page."""
        super().__init__()
        self.shape: list[object] = []
        self.text = ""
        self.parted = ""
        """The text, with U+200B for each <wbr>."""
        self._in: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element's begin."""
        if tag == "wbr":
            self.parted += "\u200b"
            return
        self.shape.append((tag, attrs))
        self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Keep an element's end."""
        self.shape.append(tag)
        while self._in and self._in.pop() != tag:
            pass

    def handle_comment(self, data: str) -> None:
        """Record a comment: there should be none."""
        self.shape.append(f"comment {data}")

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        if not {"title", "style"} & set(self._in):
            self.text += data
            self.parted += data
