"""Chromium without a window, for tests that look at pages as a reader does."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 120
"""The longest that anything may take to appear."""

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # root may not have one
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--force-device-scale-factor=1",
)


@contextlib.contextmanager
def chromium(profile: Path, size: tuple[int, int] = (1280, 1000)) -> Iterator[Chrome]:
    """A browser with a new profile, that remembers its console and its requests."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = ChromeOptions()
    options.binary_location = browser
    for option in (*_OPTIONS, f"--user-data-dir={profile}", "--window-size={},{}".format(*size)):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = Chrome(options=options, service=Service(driver))
    try:
        yield opened
    finally:
        opened.quit()


def console(browser: Chrome) -> list[str]:
    """What pages have complained of since the last call."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser: Chrome) -> list[str]:
    """The addresses that pages have asked for since the last call."""
    messages = [json.loads(each["message"])["message"] for each in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def until(browser: Chrome, what: str, ready: Callable[[], Any]) -> Any:
    """Wait until something is there, and return it; the message of a failure says what."""

    def found(_: Chrome) -> Any:
        return ready()

    ignored = (StaleElementReferenceException,)
    wait = WebDriverWait(browser, SECONDS, poll_frequency=0.1, ignored_exceptions=ignored)
    return wait.until(found, f"{what}: not there after {SECONDS} s")


def all_of(browser: Chrome, css: str, text: str = "") -> list[WebElement]:
    """The elements shown that a selector finds and that have this text."""
    found = browser.find_elements(By.CSS_SELECTOR, css)
    return [each for each in found if each.is_displayed() and text in each.text]


def one_of(browser: Chrome, css: str, text: str = "") -> WebElement:
    """The first of these elements, waited for."""
    found = until(browser, f"{css} with {text!r}", lambda: all_of(browser, css, text))
    first: WebElement = found[0]
    return first


def keep_screenshot(browser: Chrome, folder: Path, name: str) -> Path:
    """A picture in the test's folder, and where NQM_STUDY_SCREENSHOTS says, for people to see."""
    kept = folder / f"{name}.png"
    if not browser.save_screenshot(str(kept)):
        raise WebDriverException(f"no screenshot in {kept}")
    if folders := os.environ.get("NQM_STUDY_SCREENSHOTS"):
        Path(folders).mkdir(parents=True, exist_ok=True)
        shutil.copy(kept, Path(folders) / kept.name)
    return kept


def choose(browser: Chrome, axis: str, title: str) -> None:
    """Take a choice of one of the chart's menus, which stand in the order y, x."""
    menus = all_of(browser, ".updatemenu-header")
    menus["yx".index(axis)].click()
    one_of(browser, ".updatemenu-dropdown-button", title).click()
