"""Makes the pictures of `backprop.md` by running its code: `python docs/make_backprop_pictures.py`.

The blocks of the page run as one file, so that the pictures show its lines of source.  The picture
of a page in a browser needs a Chromium, and playwright (extra `browser`); without them that one
picture stays as it is.
"""

import doctest
import os
import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib

HERE = Path(__file__).parent
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STEPS = 15
"""At which step the page of the neuron is shown."""


def script(text: str) -> str:
    """The code of a page as one program."""
    parts = []
    for code in FENCE.findall(text):
        if ">>> " in code:
            code = "\n".join(e.source.rstrip() for e in doctest.DocTestParser().get_examples(code))
        parts.append(code.strip())
    return "\n\n".join(parts) + "\n"


def screenshot(page: Path, picture: Path) -> bool:
    """A picture of a page in a browser, if one is there."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return False
    if browser is None:
        return False
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        view = window.new_page(viewport={"width": 1500, "height": 950})
        view.goto(page.as_uri())
        for _ in range(STEPS):
            view.click("#step")
        view.screenshot(path=str(picture))
        window.close()
    return True


def main(folder: Path) -> None:
    """Write all pictures that the page shows."""
    matplotlib.use("agg")
    text = (HERE / "backprop.md").read_text(encoding="utf-8")
    wanted = re.findall(r"\(pictures/backprop/([\w.]+)\)", text)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        program = Path(work) / "backprop.py"
        program.write_text(script(text), encoding="utf-8")
        before = Path.cwd()
        os.chdir(work)
        try:
            runpy.run_path(str(program), run_name="__main__")
        finally:
            os.chdir(before)
        for name in wanted:
            made = Path(work) / name
            if made.exists():
                shutil.copy(made, folder / name)
            elif not screenshot(Path(work) / name.replace("_page.png", ".html"), folder / name):
                print(f"no browser here: {name} stays as it is")
                continue
            print(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "pictures" / "backprop")
