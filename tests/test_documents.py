"""Every Python example of the written pages runs: README, CONTRIBUTING and docs.

Blocks fenced as `python` run in the order of the page, in one namespace and an empty folder. A
block with prompts (`>>>`) is checked like a doctest; any other must only run through. A fragment
that shows a form and cannot run alone is fenced as `py`.
"""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(text: str) -> list[tuple[int, str]]:
    """Line number and content of each Python block of a page."""
    return [(text.count("\n", 0, m.start(1)), m.group(1)) for m in FENCE.finditer(text)]


def run_page(text: str, name: str) -> None:
    namespace = {"__name__": "__main__"}
    for line, code in blocks(text):
        if ">>> " in code:
            test = doctest.DocTestParser().get_doctest(code, namespace, name, name, line)
            report: list[str] = []
            runner = doctest.DocTestRunner(optionflags=FLAGS)
            runner.run(test, out=report.append, clear_globs=False)
            assert not runner.failures, "".join(report)
            namespace.update(test.globs)
        else:
            # The empty lines make a traceback point at the line of the page.
            exec(compile("\n" * line + code, name, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_of_the_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page.read_text(encoding="utf-8"), str(page))


PAGE = "# A page\n\n```python\nx = {value}\n```\n\n```python\n>>> x + 1\n3\n>>> y = x\n```\n"


def test_a_right_page_passes_and_a_wrong_one_is_found():
    run_page(PAGE.format(value=2), "page")
    with pytest.raises(AssertionError, match="Expected"):
        run_page(PAGE.format(value=3), "page")
    with pytest.raises(NameError):
        run_page(PAGE.format(value="unknown"), "page")
    assert [line for line, _ in blocks(PAGE)] == [3, 7]
