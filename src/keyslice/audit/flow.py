"""The flow of exams as a diagram: an <svg> of our own, narrow enough for a phone.

From the source to what was taken in and what was refused, from there to the splits and classes.
"""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from markupsafe import Markup

from keyslice.exams.split import SPLITS

WIDTH = 440
_GAP = 12
_COLUMN = (WIDTH - 2 * _GAP) // 3
_HALF = (WIDTH - _GAP) // 2
_LINE = 19
_BAR = 5
_LETTERS = 11
"""Of a class's name that fit beside its count."""
_TITLES = {"train": "training", "validation": "validation", "test": "test"}


def diagram(data: Mapping[str, Any]) -> Markup:
    """Of `keyslice.audit.data.data`, whose counts are there.

    Colours are the page's: CSS classes box, out, share, big and small.
    """
    counts, kinds = data["counts"], data["quarantine"]
    refused = sum(kinds.values())
    sides = [f"{kind.replace('_', ' ')}: {number}" for kind, number in kinds.items()]
    if data["withdrawn_exams"]:
        sides.append(f"withdrawn since: {data['withdrawn_exams']} exams")
    middle = 74
    tall = max(62, 44 + _LINE * len(sides))
    below = middle + tall + 34
    classes = len(next(iter(counts["splits"].values()))["labels"])
    height = below + 66 + (_LINE + 9) * classes + 6
    patients = f"of {counts['patients']} patients" if counts["patients"] else "patients not named"
    times = f"in {counts['batches']} ingestion{'s' if counts['batches'] > 1 else ''}"
    parts = [
        _box(0, 0, WIDTH, 44, "box"),
        _text(WIDTH / 2, 19, "Offered by the source", "strong", "middle"),
        _text(WIDTH / 2, 36, "files, and a table of labels", "small", "middle"),
        _arrow(_HALF / 2, 44, middle),
        _arrow(WIDTH - _HALF / 2, 44, middle),
        _box(0, middle, _HALF, tall, "box"),
        _text(14, middle + 24, f"{counts['exams']:,} exams", "big"),
        _text(14, middle + 42, patients, "small"),
        _text(14, middle + 57, f"taken in, {times}", "small"),
        _box(_HALF + _GAP, middle, _HALF, tall, "out"),
        _text(_HALF + _GAP + 14, middle + 24, f"{refused:,} refused", "big"),
        *(
            _text(_HALF + _GAP + 14, middle + 42 + _LINE * row, text, "small")
            for row, text in enumerate(sides or ["nothing in quarantine"])
        ),
        *_splits(counts, middle + tall, below),
    ]
    return Markup(  # noqa: S704  made here; every text in it is escaped
        f'<svg class="flow" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(_described(counts, refused))}">{"".join(parts)}</svg>'
    )


def _splits(counts: Mapping[str, Any], above: float, top: float) -> Iterator[str]:
    most = max(max(part["labels"].values(), default=0) for part in counts["splits"].values()) or 1
    start = _HALF / 2
    yield f'<path class="line" d="M{start} {above}V{top - 18}"/>'
    yield f'<path class="line" d="M{_COLUMN / 2} {top - 18}H{WIDTH - _COLUMN / 2}"/>'
    for place, split in enumerate(SPLITS):
        part, left = counts["splits"][split], place * (_COLUMN + _GAP)
        rows = len(part["labels"])
        yield _arrow(left + _COLUMN / 2, top - 18, top)
        yield _box(left, top, _COLUMN, 66 + (_LINE + 9) * rows, "box")
        yield _text(left + 11, top + 19, _TITLES[split], "strong")
        yield _text(left + 11, top + 40, f"{part['exams']:,} exams", "big")
        who = f"{part['patients']:,} patients" if part["patients"] else ""
        yield _text(left + 11, top + 56, who, "small")
        for row, (name, number) in enumerate(part["labels"].items()):
            y = top + 78 + (_LINE + 9) * row
            yield _text(left + 11, y, _shortened(name), "small")
            yield _text(left + _COLUMN - 11, y, f"{number:,}", "small", "end")
            width = (_COLUMN - 22) * number / most
            yield (
                f'<rect class="share" x="{left + 11}" y="{y + 5}" width="{width:.1f}" '
                f'height="{_BAR}" rx="2"/>'
            )


def _described(counts: Mapping[str, Any], refused: int) -> str:
    """For who cannot see it; the table beside it has the classes."""
    splits = ", ".join(f"{part['exams']} {_TITLES[s]}" for s, part in counts["splits"].items())
    return (
        f"Flow of exams: {counts['exams']} taken in, {refused} files refused; of those taken in: "
        f"{splits}"
    )


def _shortened(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _box(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="7"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _arrow(x: float, above: float, below: float) -> str:
    head = f"M{x - 4} {below - 7}L{x} {below - 1}L{x + 4} {below - 7}"
    return f'<path class="line" d="M{x} {above}V{below - 1}{head}"/>'
