"""What a terminal would not show: escape sequences, control characters, the sides of panels. Pure.

Sequences are those of ECMA-48, with an ESC or as one 8-bit character: CSI (colours), and the strings OSC (titles,
links), DCS, SOS, PM and APC.
"""

import codecs
import re

PANEL_SIDES = "│┃║"
SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
    r"|[\x80-\x9f]"
)
UNFINISHED = re.compile(
    r"(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*|(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f]*\x1b?|\x1b[ -/]*|\r)\Z"
)
CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n"))
C1 = re.compile(r"[\x80-\x9f]")  # 8-bit control characters
LONGEST_SEQUENCE = 64 * 1024  # characters of one that may arrive in several parts
C1_ERRORS = "runner-c1"  # the name of a way to decode UTF-8 in which a lone 8-bit control character stays one


def clean_text(text: str) -> str:
    """The text as it can be read: without escape sequences and control characters; lines stay."""
    return without_controls(without_sequences(text, ""))


def without_controls(text: str) -> str:
    """The text without control characters of 7 bits; lines and tabs stay."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return lines.encode("utf-8", "surrogatepass").translate(None, CONTROLS).decode("utf-8", "surrogatepass")


def unfinished_length(text: str) -> int:
    """How many characters at the end of the text may be the first part of an escape sequence or of a line end."""
    found = UNFINISHED.search(text, max(0, len(text) - LONGEST_SEQUENCE))
    return 0 if found is None else len(text) - found.start()


def without_sequences(text: str, sign: str, sequence: re.Pattern[str] = SEQUENCE) -> str:
    """The text with this sign in place of each byte of an escape sequence, so that all else stays where it is."""
    if "\x1b" not in text and (text.isascii() or not C1.search(text)):
        return text
    return sequence.sub(lambda found: sign * len(found.group().encode("utf-8", "surrogatepass")), text)


def _keep_c1(error: UnicodeError) -> tuple[str, int]:
    """An 8-bit control character for what is none in UTF-8, else U+FFFD."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    byte = error.object[error.start]
    return (chr(byte), error.start + 1) if 0x80 <= byte <= 0x9F else ("\ufffd", error.end)


codecs.register_error(C1_ERRORS, _keep_c1)
