"""Words that stand for names and numbers of persons, and finding them in bytes however written."""

import base64
import hashlib
import itertools
import re
from collections.abc import Iterator

NAME, NUMBER = "ZQXWVKJH", "773194620518"
"""Every planted word holds one of them; neither comes about by chance."""
BIRTH, STUDY = "19530412", "20191123"
DATES = (BIRTH, STUDY)


def name(place: str) -> str:
    """A person's name, which tells where it was planted."""
    return f"{NAME}^{place}"


def number(place: int) -> str:
    """A person's or a device's number."""
    return f"{NUMBER}{place:02}"


def uid(place: int) -> str:
    """A unique identifier of DICOM's."""
    return f"1.2.826.0.{NUMBER}.{place}"


def _dates() -> Iterator[str]:
    for date in DATES:
        parts = date[:4], date[4:6], date[6:]
        for mark in "-./":
            yield mark.join(parts)
            yield mark.join(reversed(parts))


def _forms() -> Iterator[bytes]:
    """In lower case, as the bytes that are searched."""
    for word in (NAME.lower(), NUMBER, *_dates()):
        yield word.encode()
        yield word[::-1].encode()
        yield word.encode("utf-16-le")
        yield word.encode("utf-16-be")
    for word in (NAME, NAME.lower(), NUMBER):
        yield word.encode().hex().encode()


def _coded() -> Iterator[bytes]:
    """In base64, which tells upper from lower case: whichever of three bytes it begins at."""
    for word, before in itertools.product((NAME, NAME.lower(), NUMBER), range(3)):
        coded = base64.b64encode(bytes(before) + word.encode())
        # Without the characters at its ends that depend on what stands beside it.
        yield coded[-(-before * 8 // 6) : (before + len(word)) * 8 // 6]


def _hashes(values: tuple[str, ...]) -> Iterator[bytes]:
    """Without a key anyone can make them, too."""
    for value in values:
        for algorithm in ("md5", "sha1", "sha256", "blake2b"):
            yield hashlib.new(algorithm, value.encode()).hexdigest()[:32].encode()


COMPACT = [re.compile(rb"(?<![0-9a-z.])" + date.encode() + rb"(?![0-9a-f])") for date in DATES]
"""Eight digits may be part of any number."""

DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}")


class Search:
    """For all that must not be found.

    Args:
        hashed: whose hashes without a key must not be found either.
    """

    def __init__(self, hashed: tuple[str, ...] = ()) -> None:
        self._forms, self._hashes = {*_forms()}, {*_hashes(hashed)}
        self._coded = {*_coded()}

    def found(self, data: bytes) -> list[bytes]:
        """What is found in the data, with some of what stands around it."""
        lowered = data.lower()
        places = [lowered.find(form) for form in self._forms]
        places += [data.find(form) for form in self._coded]
        places += [m.start() for date in COMPACT for m in date.finditer(lowered)]
        places += [m.start() for m in DIGEST.finditer(lowered) if m[0] in self._hashes]
        return [data[max(0, p - 40) : p + 60] for p in places if p >= 0]
