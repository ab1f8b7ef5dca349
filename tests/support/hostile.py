"""Texts as an attacker would choose them: for jails, ids, user names, log lines and whatever a server says."""

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
