"""The Chromium in which the tests of the server's page run: the machine's own, or Debian's, which is installed once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

# Nothing but the tests' own requests leaves the browser.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
_INSTALL_S = 600
# A script: each text that is shown with its contrast to what lies behind it, as WCAG computes it. The colour of a
# picture's texts is their fill.
CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (colour) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = [...rgba(colour)].map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (rgba(colour)[3] > 250) return colour;
    }
    return "white";
  };
  const texts = [...document.querySelectorAll("body *")].filter((element) =>
    element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) &&
    !element.closest(":disabled, title, desc, .unseen") &&
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return texts.map((element) => {
    const style = getComputedStyle(element);
    const colour = element.closest("svg") ? style.fill : style.color;
    const [one, other] = [light(colour), light(behind(element))].sort((a, b) => b - a);
    return [element.textContent.trim().slice(0, 40), (one + 0.05) / (other + 0.05)];
  });
}"""


def chromium() -> str:
    """The path of a Chromium; the test is skipped where there is none, and fails in CI (where CI=true)."""
    path = _found() or _installed()
    if path is None:
        reason = "no Chromium: install one, or name it in CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def _found() -> str | None:
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    names = (path for name in _NAMES if (path := shutil.which(name)))
    places = (place for place in _PLACES if Path(place).is_file())
    return next(names, None) or next(places, None)


@cache
def _installed() -> str | None:
    """Debian's, where this is Debian and we may install; tried once."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        subprocess.run(["apt-get", "-q", *command], capture_output=True, check=False, timeout=_INSTALL_S)
    return shutil.which("chromium")


if __name__ == "__main__":
    print(_found() or _installed() or "there is no Chromium, and it could not be installed")
