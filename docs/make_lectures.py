"""Writes the page of the lectures' numbers: `python docs/make_lectures.py [file]`.

It runs every row of `tests/lectures`, and shows the lecture's value beside ours.  A test compares
the page with what this gives, so it cannot go stale.
"""

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "lectures.md"
HEAD = """\
# The numbers of the lectures

Five lecture decks give numbers; each is computed here again, by the test that is named beside it.
`python docs/make_lectures.py` runs them all and writes this page.

A value with ⁺ was computed by us from what the deck says, and is not printed there; where the deck
prints it rounded, that stands before it.  Accuracies and speeds come from the records in
`examples/results`, with the command that made each.
"""


def rows() -> tuple[Any, Any]:
    """The modules of the rows, with all rows loaded."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    found = importlib.import_module("tests.lectures.rows")
    for deck in (*found.DECKS, "systems"):
        importlib.import_module(f"tests.lectures.test_{deck}")
    return found, found.ROWS


def lecture_text(value: Any, written: Any) -> str:
    """What the lecture says of a value."""
    if not hasattr(value, "ours"):
        return f"{value.lecture:g} {value.unit}"
    text = written(value.lecture).replace("-", "−") + ("⁺" if value.ours else "")
    if value.deck and value.ours:
        return f"{value.deck}; {text}"
    return f"{text} ({value.deck})" if value.deck else text


def lines(found: Any) -> Iterator[str]:
    """The page, line by line."""
    yield HEAD
    for deck, title in found.DECKS.items():
        yield f"## {deck}: {title}\n"
        yield "| what | value | lecture | ours |"
        yield "|---|---|---|---|"
        for (file, name), row in found.ROWS.items():
            if row.decks[0] != deck:
                continue
            row.check()
            also = f" (also {', '.join(row.decks[1:])})" if row.decks[1:] else ""
            what = f'{row.what}{also}; [test](../tests/lectures/{file}.py "{name}")'
            for value, ours in zip(row.values, row.found, strict=True):
                theirs = lecture_text(value, found.written)
                cells = (what, value.what, theirs, value.text(ours).replace("-", "−"))
                yield f"| {' | '.join(cells)} |"
                what = ""
        yield ""
    yield "## Shown on small examples\n"
    yield "By the tests of [test_systems.py](../tests/lectures/test_systems.py):\n"
    for decks, test in found.SHOWN.values():
        text = " ".join(inspect.getdoc(test).split())
        yield f"- {text} ({decks})"


def page() -> str:
    """The whole page."""
    found, _ = rows()
    return "\n".join(lines(found)) + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    path.write_text(page(), encoding="utf-8")
    print(path)
