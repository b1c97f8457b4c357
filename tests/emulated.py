"""A Python for aarch64 that runs on x86-64: Debian's emulator and packages, and the wheels of what Edgeship needs.

Nothing of it is installed: apt and pip only fetch, and all lies in one folder. The interpreter is a script that starts
the emulator, so that the children of an emulated process start like any other, without a handler in the kernel.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from edgeship.system import storage

ROOT = Path(__file__).parent.parent
# Its emulator is the first that runs ONNX Runtime, and needs nothing of the system that it runs on.
DEBIAN, PYTHON = "trixie", "3.13"
NEWEST_GLIBC = 41
PACKAGES = ("python3", "libstdc++6", "libgomp1")
INTERPRETER = f"""#!/bin/sh
here=${{0%/*}}/../../debian
exec "$here/emulator/usr/bin/qemu-aarch64" -L "$here/root" -0 "$0" "$here/root/usr/bin/python{PYTHON}" "$@"
"""


class CannotEmulate(Exception):
    """There is no emulator to be had here; the message says why."""


def interpreter(folder: Path) -> Path:
    """The Python for aarch64 in `folder`, which is filled where that has not been done. Raises CannotEmulate."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise CannotEmulate(f"the emulator is taken for Linux x86_64, and this is {sys.platform} {platform.machine()}")
    debian = folder / "debian"
    if not debian.exists():
        with storage.new_folder(debian) as new:
            unpack("amd64", ("qemu-user",), new / "emulator")
            unpack("arm64", PACKAGES, new / "root")
            (new / "root" / "lib").symlink_to("usr/lib")
    environment = folder / f"python-{wanted()}"
    if not environment.exists():
        for old in folder.glob("python-*"):
            shutil.rmtree(old)
        with storage.new_folder(environment) as new:
            make_environment(new)
    return environment / "bin" / "python"


# --- Debian ----------------------------------------------------------------------------------------------------------


def unpack(architecture: str, packages: tuple[str, ...], folder: Path) -> None:
    """Debian packages with all that they depend on, from the mirror and with the keys that this machine has."""
    state = folder.with_name(f"{folder.name}-apt")
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb {mirror()} {DEBIAN} main\n", encoding="utf-8")
    apt = ["apt-get", "-qq", "-o", f"APT::Architecture={architecture}", "-o", f"APT::Architectures={architecture}"]
    for option in (
        f"Dir::State={state}",
        f"Dir::State::status={state / 'status'}",
        f"Dir::Cache={state}",
        f"Dir::Etc::sourcelist={state / 'sources.list'}",
        "Dir::Etc::sourceparts=-",
        "APT::Install-Recommends=false",
        "APT::Sandbox::User=",
        "Debug::NoLocking=true",
    ):
        apt += ["-o", option]
    told(f"fetching {', '.join(packages)} for {architecture} of Debian {DEBIAN}")
    run(*apt, "update")
    run(*apt, "install", "--download-only", "--yes", *packages)
    folder.mkdir()
    for package in (state / "archives").glob("*.deb"):
        run("dpkg-deb", "--extract", str(package), str(folder))
    shutil.rmtree(state)


def mirror() -> str:
    """Where this machine takes Debian from."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise CannotEmulate("the emulator is taken from Debian, and there is no apt-get and dpkg-deb here")
    found = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Created-By: Packages")
    places = [line for line in found.splitlines() if "security" not in line]
    if not places:
        raise CannotEmulate("the emulator is taken from Debian, and apt-get is set up for no mirror of it")
    return places[0]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise CannotEmulate(f"{command[0]} failed: {last}")
    return done.stdout


# --- Python ----------------------------------------------------------------------------------------------------------


def wanted() -> str:
    """A name for what the environment holds."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return hashlib.sha256("\n".join([INTERPRETER, pins, *dependencies()]).encode()).hexdigest()[:16]


def make_environment(folder: Path) -> None:
    """What venv would make, with the wheels of the run-time dependencies. Fails where one of them has none."""
    told("fetching the wheels of what Edgeship needs")
    site = folder / "lib" / f"python{PYTHON}" / "site-packages"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", f"--target={site}"]
    command += ["--implementation=cp", f"--python-version={PYTHON}", *(f"--platform={tag}" for tag in tags())]
    command += [f"--constraint={ROOT / 'constraints.txt'}", *dependencies()]
    subprocess.run(command, check=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n", encoding="utf-8")
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(INTERPRETER, encoding="utf-8")
    python.chmod(0o755)


def tags() -> Iterator[str]:
    yield from (f"manylinux_2_{minor}_aarch64" for minor in range(NEWEST_GLIBC, 16, -1))
    yield "manylinux2014_aarch64"


def dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [str(text) for text in project["dependencies"]]


def told(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
