"""A real browser for tests of pages: headless Chromium by selenium, or a reason to skip."""

import json
import os
import shutil
from importlib.util import find_spec

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
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
    if find_spec("selenium") is None:
        return 'selenium is not installed: pip install "minigrad[browser]"'
    if not any(map(shutil.which, NAMES)):
        return "no Chromium is on the PATH: apt-get install chromium chromium-driver"
    if shutil.which("chromedriver") is None:
        return "chromedriver is not on the PATH: apt-get install chromium-driver"
    return None


def start(folder, size="1600,1000"):
    """A browser with an empty profile in `folder`; skips the test where there is none.

    With MINIGRAD_REQUIRE_BROWSER set, a missing one is a failure.
    """
    reason = missing()
    if reason is not None:
        (pytest.fail if os.environ.get("MINIGRAD_REQUIRE_BROWSER") else pytest.skip)(reason)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, NAMES)))
    for flag in (*FLAGS, f"--window-size={size}", f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def requests(driver):
    """Addresses that pages from files have asked for, other than themselves."""
    found = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked = message["params"]["request"]["url"]
            by = message["params"]["documentURL"]
            if by.startswith("file:") and asked != by:
                found.append(asked)
    return found
