"""A real browser for tests of pages: headless Chromium by Playwright, or a reason to skip."""

import os
import shutil
from importlib.util import find_spec

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing():
    """What a browser test lacks here, in words; None if it can run."""
    if find_spec("playwright") is None:
        return 'playwright is not installed: pip install "minigrad[browser]"'
    if not any(map(shutil.which, NAMES)):
        return "no Chromium is on the PATH: apt-get install chromium"
    return None


class Browser:
    """One window of a Chromium with an empty profile.

    Attributes:
        page: Playwright's.
        errors: what pages have complained about.
    """

    def __init__(self, folder, width, height):
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._context = self._playwright.chromium.launch_persistent_context(
            str(folder),
            executable_path=next(filter(None, map(shutil.which, NAMES))),
            args=list(FLAGS),
            viewport={"width": width, "height": height},
        )
        self.page = self._context.pages[0]
        self.errors, self._asked = [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self.page.on("request", lambda request: self._asked.append(request.url))

    def open(self, path):
        """Show a file, and forget what was asked for and said before."""
        self.page.goto("about:blank")
        self.errors.clear()
        self._asked.clear()
        self.page.goto(path.as_uri())

    def run(self, script, argument=None):
        """What a script `return`s inside of the page; `argument` is its `given`."""
        return self.page.evaluate(f"given => {{ {script} }}", argument)

    def press(self, *keys):
        """Type keys, by Playwright's names for them."""
        for key in keys:
            self.page.keyboard.press(key)

    def requests(self):
        """Addresses that the page has asked for, other than itself."""
        return [asked for asked in self._asked if asked != self.page.url]

    def quit(self):
        """Close it."""
        self._context.close()
        self._playwright.stop()


def start(folder, width=1600, height=1000):
    """A browser with an empty profile in `folder`; skips the test where there is none.

    With MINIGRAD_REQUIRE_BROWSER set, a missing one is a failure.
    """
    reason = missing()
    if reason is not None:
        (pytest.fail if os.environ.get("MINIGRAD_REQUIRE_BROWSER") else pytest.skip)(reason)
    return Browser(folder, width, height)
