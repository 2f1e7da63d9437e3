"""A real Chromium, Debian's, without a screen."""

import os
import shutil
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1",
)


def find(*names):
    for name in names:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(f"none of {', '.join(names)} is here: install the Debian packages "
                            "chromium and chromium-driver")


class Browser:
    def __init__(self, profile_directory):
        options = webdriver.ChromeOptions()
        options.binary_location = find("chromium", "google-chrome")
        for flag in (*FLAGS, f"--user-data-dir={profile_directory}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # The driver is named, so that selenium does not look for one to download.
        self.driver = webdriver.Chrome(options=options, service=Service(find("chromedriver")))
        self.resize(1280, 900)

    def resize(self, width, height):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})

    def colour_scheme(self, name):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": name}]})

    def open(self, url):
        self.driver.get(url)

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def text(self, selector):
        """Text of the first element that matches, or None."""
        return self.script("return document.querySelector(arguments[0])?.textContent ?? null",
                           selector)

    def texts(self, selector):
        return self.script(
            "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)",
            selector)

    def visible(self, selector):
        return self.script(
            "const one = document.querySelector(arguments[0]);"
            "return Boolean(one && one.checkVisibility())", selector)

    def console_errors(self):
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] == "SEVERE"]

    def screenshot(self, name):
        """The whole page, into FR_ARTIFACT_DIR."""
        directory = Path(os.environ.get("FR_ARTIFACT_DIR", "build/artifacts"))
        directory.mkdir(parents=True, exist_ok=True)
        width, height = self.script("return [innerWidth, document.documentElement.scrollHeight]")
        self.resize(width, height)
        path = directory / f"{name}.png"
        assert self.driver.save_screenshot(str(path))
        self.resize(width, 900)
        return path

    def quit(self):
        self.driver.quit()
