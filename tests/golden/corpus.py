"""Strings that tokenizers get wrong: scripts, emoji, whitespace runs, control bytes, broken UTF-8.

Only code points that Unicode 14 knows are used: the libraries compared carry
tables of different versions, and a character new in one has no agreed class. U+061D
is left out too: the tables of the BERT normalizer are older than it.
"""

import random
import unicodedata

COUNT = 10_000
BROKEN = 500
SCRIPTS = [(0x20, 0x7F), (0xA0, 0x180), (0x370, 0x400), (0x400, 0x530), (0x590, 0x600), (0x600, 0x700),
           (0x900, 0x980), (0xE00, 0xE80), (0x10A0, 0x1100), (0x1100, 0x1200), (0x1E00, 0x2000), (0x2000, 0x2070),
           (0x2070, 0x2200), (0x2200, 0x2300), (0x2460, 0x2500), (0x3000, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4),
           (0xF900, 0xFB00), (0xFB00, 0xFE00), (0xFE00, 0xFFFE), (0x10000, 0x10200), (0x1D400, 0x1D800),
           (0x1F300, 0x1F700), (0x1F900, 0x1FA00), (0x20000, 0x20100), (0xE000, 0xE010), (0xE0100, 0xE01F0)]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\n ", "\u00a0", "\u3000", "\u2028", "\u200b", "\u1680",
          "\x0b", "\x0c", "\x85", "\x1c", "\x1f"]
WORDS = ["the", "don't", "I'll", "we've", "THEY'RE", "it's", "O'Neil", "naïve", "Straße", "2024", "3.14159", "1,000,000",
         "x=y+1;", "{\"a\":[1,2]}", "http://example.com/a?b=c&d", "foo_bar", "CamelCase", "\u0130stanbul", "ﬁne", "é", "e\u0301",
         "\u1e9b\u0323", "한국어", "\u1112\u1161\u11ab", "日本語", "العربية", "עברית", "हिन्दी", "ไทย", "👩‍👩‍👧", "🏳️‍🌈",
         "🇩🇪", "<|im_start|>", "<|endoftext|>", "<|begin_of_text|>", "[CLS]", "[MASK]", "Ⅷ", "½", "①", "٣", "…", "——", "\x00",
         "\x7f", "\ufeff", "\u00ad", "\ufffd", "'S", "'sS", "''", "n't", "\u017f", "'\u017f", "\u212a"]


def agreed(text):
    return "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Cs") and c != "\u061d")


def piece(source):
    kind = source.random()
    if kind < 0.45:
        return source.choice(WORDS)
    if kind < 0.7:
        return source.choice(SPACES) * source.choice([1, 1, 1, 2, 5])
    if kind < 0.8:
        return "".join(source.choice("0123456789") for _ in range(source.randrange(1, 9)))
    if kind < 0.85:
        return chr(source.randrange(0, 32))
    low, high = source.choice(SCRIPTS)
    run = [chr(source.randrange(low, high)) for _ in range(source.randrange(1, 6))]
    return agreed(run) or "?"


def broken(text, source):
    """Valid text with a few bytes cut out, changed or put in."""
    data = bytearray(text.encode())
    for _ in range(source.randrange(1, 4)):
        at = source.randrange(0, len(data) + 1)
        action = source.random()
        if action < 0.4 and data:
            del data[min(at, len(data) - 1)]
        elif action < 0.7:
            data[at:at] = source.choice([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"])
        else:
            data[at:at] = bytes([source.randrange(128, 256)])
    return bytes(data)


def strings():
    """COUNT byte strings, the last BROKEN of them mostly invalid UTF-8."""
    source = random.Random(5)
    texts = ["", " ", "\n", "a", *WORDS, *SPACES]
    while len(texts) < COUNT - BROKEN:
        texts.append("".join(piece(source) for _ in range(source.randrange(1, 10))))
    data = [text.encode() for text in texts]
    while len(data) < COUNT:
        data.append(broken(source.choice(texts[4:]), source))
    return data
