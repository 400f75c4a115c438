"""Okiba's images, built for tests on a machine that has neither Docker nor a registry.

    base (debootstrap) ──▶ control plane, slot, MinIO (buildah, chroot isolation) ──▶ OCI archives

Each is built once per content of what it is made of and kept in the cache folder; `python -m tests.images` builds all.
Needs root and Debian's packages. Builds inherit this machine's package mirrors, certificates and proxies.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from okiba.apps.local.tools import cache_dir, find_go

ROOT: Final = Path(__file__).parents[1]
VERSION: Final = "0.1.0"
REGISTRY: Final = "docker.io/library"
"""What Docker, podman and the kubelet put before a name without a registry."""

PROGRAMS: Final = {"buildah": "buildah", "debootstrap": "debootstrap", "runc": "runc"}
"""Needed to build, and the Debian packages that have them."""

SUITE: Final = "bookworm"
SUITES: Final = {"3.11": SUITE, "3.13": "trixie"}
"""The Debian that has a Python: what slots of it stand on."""

PACKAGES: Final = "python3,python3-venv,ca-certificates"
DEAD_WEIGHT: Final = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "var/log", "dev")
"""Emptied in the base: half of its size, and nothing reads it in a container."""

BUILD_S: Final = 3_600
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Image:
    """An image that is there, as an OCI archive.

    Args:
        name: Without a registry, as charts and compose files say it: `okiba:0.1.0`.
        key: Hash of all that it is made of.
    """

    name: str
    key: str
    archive: Path

    @property
    def reference(self) -> str:
        """Its whole name, which is in the archive too."""
        return f"{REGISTRY}/{self.name}"


def control_plane() -> Image:
    """Gateway, controller, jobs, CLI, Valkey."""
    made_of = ["controller/okiba", "controller/pyproject.toml", "controller/requirements.lock", "runtime/okiba_runtime"]
    return _built(f"okiba:{VERSION}", "controller/Dockerfile", [*made_of, "runtime/pyproject.toml"])


def slot(python: str = "3.11") -> Image:
    """A function's slot; the base has to have this Python."""
    made_of = ["runtime/okiba_runtime", "runtime/packages.lock"]
    suite = SUITES[python]
    name = f"okiba-slot:{VERSION}-python{python}"
    return _built(name, "runtime/Dockerfile", made_of, {"PYTHON": python}, suite=suite)


def minio() -> Image:
    """The object store, built from its pinned source: minutes, the first time."""
    return _built(
        f"okiba-minio:{VERSION}",
        "controller/images/minio/Dockerfile",
        ["controller/images/minio/go.lock"],
        site=_go_settings(),
    )


def base(suite: str = SUITE) -> Image:
    """Debian with Python and certificates, what all others stand on."""
    key = _key(["debootstrap", suite, PACKAGES, *DEAD_WEIGHT, platform.machine()])
    image = _image(f"okiba-base:{suite}", key)
    with _one_at_a_time(image) as found:
        if not found:
            _bootstrap(image, suite)
    return image


def why_not() -> str:
    """Why images cannot be built here; empty when they can."""
    if os.geteuid() != 0:
        return "building images without Docker needs root"
    if not shutil.which("apt-get") and any(not shutil.which(program) for program in PROGRAMS):
        return f"needs {', '.join(PROGRAMS)}, and this is no Debian to install them on"
    return ""


def install(programs: dict[str, str]) -> None:
    """These programs are there, from Debian's packages if they were not: program → package."""
    missing = [package for program, package in programs.items() if not _installed(program)]
    if not missing:
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], quiet)
    _run(["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *missing], quiet)


# --- building ---------------------------------------------------------------------------------------------------------


def _built(
    name: str,
    dockerfile: str,
    made_of: list[str],
    arguments: dict[str, str] | None = None,
    site: dict[str, str] | None = None,
    suite: str = SUITE,
) -> Image:
    """The image that this Dockerfile makes of these files.

    Args:
        arguments: Of the build; they make a difference to what comes out.
        site: Arguments that make none, such as where modules are fetched from.
        suite: The Debian that it stands on.
    """
    under, arguments = base(suite), arguments or {}
    words = [under.key, *(f"{argument}={value}" for argument, value in sorted(arguments.items()))]
    image = _image(name, _key(words, [ROOT / path for path in (dockerfile, *made_of)]))
    with _one_at_a_time(image) as found:
        if not found:
            _say(f"building {name}")
            _build(image, dockerfile, {**arguments, **(site or {}), "BASE": f"oci-archive:{under.archive}"})
    return image


def _build(image: Image, dockerfile: str, arguments: dict[str, str]) -> None:
    install(PROGRAMS)
    with _workplace() as folder:
        options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options += [f"--secret=id={name},src={path}" for name, path in _secrets(folder).items()]
        options += ["--isolation=chroot", "--timestamp=0", "--format=oci", "--layers", f"--file={ROOT / dockerfile}"]
        if "AS packages" in (ROOT / dockerfile).read_text():  # named, so that this stage outlives the others' removal
            _buildah(image, "bud", *options, "--target=packages", f"--tag={image.reference}-packages", str(ROOT))
        _buildah(image, "bud", *options, f"--tag={image.reference}", str(ROOT))
        _push(image)
        _buildah(image, "rm", "--all")
        _buildah(image, "rmi", "--prune")


def _bootstrap(image: Image, suite: str) -> None:
    _say(f"making {image.name} with debootstrap")
    install(PROGRAMS)
    with _workplace() as folder:
        root = folder / "root"
        _run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(root)])
        for name in (*DEAD_WEIGHT, "var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / name)
            (root / name).mkdir()
        tar = ["tar", "--create", "--sort=name", "--mtime=@0", "--numeric-owner", f"--file={folder / 'root.tar'}"]
        _run([*tar, f"--directory={root}", "."])
        container = _buildah(image, "from", "scratch")
        _buildah(image, "add", container, str(folder / "root.tar"), "/")
        _buildah(image, "config", "--env=PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
        _buildah(image, "commit", "--rm", "--timestamp=0", container, image.reference)
        _push(image)


def _push(image: Image) -> None:
    """Puts the image into its archive; there is never half of one under its name."""
    fresh = image.archive.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    _buildah(image, "push", "--quiet", image.reference, f"oci-archive:{fresh}:{image.reference}")
    fresh.replace(image.archive)


def _buildah(image: Image, *words: str) -> str:
    """What buildah says on standard output; it keeps what it builds for this image in a folder of its own."""
    name = _file_name(image.name)
    storage = [f"--root={_folder() / 'layers' / name}", f"--runroot=/run/okiba-images/{name}"]
    return _run(["buildah", *storage, "--storage-driver=overlay", *words])


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    """A folder for one build, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="building-", dir=_folder()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _secrets(folder: Path) -> dict[str, Path]:
    """What of this machine's configuration a build needs to reach package indexes; none of it stays in the image."""
    secrets = {"pip": folder / "pip.conf"}
    secrets["pip"].write_text(pip_conf())
    secrets["pip"].chmod(0o600)
    if CERTIFICATES.exists():
        secrets["ca"] = CERTIFICATES
    return secrets


def pip_conf() -> str:
    """pip's indexes and patience here, from whichever file or variable they are."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    kept = re.findall(
        r"^\S*?\.((?:extra-)?index-url|trusted-host|proxy|retries|(?:default-)?timeout)=(.*)$", told, re.M
    )
    lines = [f"{name.removeprefix('default-')} = {value.strip(chr(39))}" for name, value in kept]
    return "\n".join(["[global]", *lines, ""])


def _go_settings() -> dict[str, str]:
    """Where Go gets modules from here, when that is not where it would by itself."""
    names = ("GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE")
    settings = {name: os.environ[name] for name in names if os.environ.get(name)}
    if go := find_go(os.environ):
        told = subprocess.run([go, "env", "-changed", *names], capture_output=True, text=True, check=False).stdout
        settings |= dict(re.findall(r"^(\w+)='?([^'\n]+)'?$", told, re.M))
    return settings


# --- the cache --------------------------------------------------------------------------------------------------------


def _folder() -> Path:
    folder = cache_dir(os.environ) / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _image(name: str, key: str) -> Image:
    return Image(name, key, _folder() / f"{_file_name(name)}-{key}.tar")


def _file_name(name: str) -> str:
    return name.replace(":", "-")


def _key(words: Iterable[str], paths: Iterable[Path] = ()) -> str:
    """A hash of these words and of the files at and below these paths."""
    content = hashlib.sha256("\0".join(words).encode())
    for path in paths:
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and file.suffix != ".pyc":
                content.update(f"\0{file.relative_to(ROOT)}\0{file.stat().st_mode:o}\0".encode())
                content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()[:16]


@contextlib.contextmanager
def _one_at_a_time(image: Image) -> Iterator[bool]:
    """Whether the image is there already; while the block lasts, no other process builds one of this name."""
    if image.archive.exists():
        yield True
        return
    with (_folder() / f"{_file_name(image.name)}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield image.archive.exists()
    for old in _folder().glob(f"{_file_name(image.name)}-*.tar"):
        if old != image.archive:
            old.unlink(missing_ok=True)


def _installed(program: str) -> bool:
    return bool(shutil.which(program)) or Path("/usr/lib/podman", program).exists()


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What it prints. It runs at the lowest priority: it is long, and whoever measures something else is not to notice.

    Raises:
        subprocess.CalledProcessError: It failed; what it printed has been shown.
    """
    ran = subprocess.run(
        ["nice", "-n", "19", *command], stdout=subprocess.PIPE, text=True, timeout=BUILD_S, env=environment, check=False
    )
    if ran.returncode:
        _say(ran.stdout[-20_000:])
    ran.check_returncode()
    return ran.stdout.strip()


def _say(line: str) -> None:
    print(f"images: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    for make in (control_plane, slot, minio):
        print(make().archive)
