import io
import os
import shutil
import stat
import struct
import subprocess
import zipfile
import zlib
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from okiba.adapters.package_zip import check, extract
from okiba.core.errors import InvalidParameter, PlatformError
from tests.unit.control.archives import Archive, Member, lawful, pack

APP = Member("app.py", b"def handler(event, context): return event\n")
ZEROS = b"\0" * 1_000_000


def _file(tmp_path, content):
    path = tmp_path / "package.zip"
    path.write_bytes(content)
    return path


def _with(*members, **options):
    return Archive([APP, *members], **options)


def _overlapping():
    """The archive of CVE-2024-0450: many directory entries for one piece of data."""
    inner = Member("zeros", ZEROS)
    return Archive([inner, *(Member("zeros", ZEROS, at=0) for _ in range(5))])


def _quoting():
    """David Fifield's bomb: each entry's data begins with the next one's local header."""
    outer, inner = Member("outer.py", method=0), Member("inner.py")
    header = Archive([inner]).bytes()[: 30 + len("inner.py")]
    outer.content = header + pack(inner.content)
    inner.at = 30 + len("outer.py")
    return Archive([outer, inner]).bytes()


def _zip64_lie():
    return Archive([Member("app.py", told_size=0xFFFFFFFF)]).bytes()


def _zip64_end(count, at=0):
    body = Archive([APP]).bytes()
    begins = body.index(b"PK\1\2")
    end = body.index(b"PK\5\6")
    size = end - begins
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, begins)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end + at, 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return body[:end] + end64 + locator + last


def _deep(entries):
    return Archive([Member(f"{number}/" + "d/" * 400 + "x", b"") for number in range(entries)])


def _many(files):
    return Archive([Member(f"{number}", b"") for number in range(files)])


def _content(made):
    """Large archives are written when their test runs, not when it is collected."""
    return made if isinstance(made, bytes) else made.bytes()


PLAIN = _with().bytes()

HOSTILE = {
    "nothing at all": b"",
    "no zip": b"hello, I am a handler",
    "an empty zip": lawful({}),
    "folders only": lawful({"a/": b"", "a/b/": b""}),
    "a parent folder's file": _with(Member("../evil.py")),
    "a parent's file further in": _with(Member("a/../../evil.py")),
    "an absolute path": _with(Member("/etc/cron.d/evil")),
    "a path that starts with two slashes": _with(Member("//evil")),
    "a drive": _with(Member("C:/evil.py")),
    "a backslash": _with(Member("..\\evil.py")),
    "a UNC path": _with(Member("\\\\server\\share\\evil.py")),
    "a dot": _with(Member("./evil.py")),
    "an empty name": _with(Member("")),
    "a slash alone": _with(Member("/")),
    "a NUL in the name": _with(Member("a.py\0.txt")),
    "a newline in the name": _with(Member("a\nb.py")),
    "a name of 4 kB": _with(Member("/".join(["x" * 200] * 20))),
    "a component of 256 bytes": _with(Member("x" * 256)),
    "a name that is not the UTF-8 it claims": _with(Member(b"\xff\xfe.py", flags=0x800)),
    "a symbolic link": _with(Member("etc", b"/etc", mode=0o120777)),
    "a symbolic link and a file through it": _with(Member("etc", b"/etc", 0o120777), Member("etc/passwd")),
    "a FIFO": _with(Member("pipe", b"", mode=0o010644)),
    "a block device": _with(Member("sda", b"", mode=0o060644)),
    "a character device": _with(Member("null", b"", mode=0o020644)),
    "a socket": _with(Member("sock", b"", mode=0o140644)),
    "an unknown kind of file": _with(Member("odd", b"", mode=0o150644)),
    "a setuid file": _with(Member("su", mode=0o104755)),
    "a setgid file": _with(Member("sg", mode=0o102755)),
    "a folder that says it is a file": _with(Member("a", b"", mode=0o040755)),
    "a folder with content": _with(Member("a/", b"hello", mode=0o040755)),
    "a name twice": _with(Member("a.py"), Member("a.py")),
    "a folder twice": _with(Member("a/", b""), Member("a/", b"")),
    "names that differ by case": _with(Member("Readme"), Member("README")),
    "folders that differ by case": _with(Member("Lib/a.py"), Member("lib/b.py")),
    "names that differ by Unicode form": _with(Member("é.py"), Member("e\u0301.py")),
    "a file that is also a folder": _with(Member("a"), Member("a/b.py")),
    "a folder that is also a file": _with(Member("a/b.py"), Member("A")),
    "10,001 files": _many(10_001),
    "10,001 folders in 30 paths": _deep(30),
    "a bomb of 42 kB": _with(Member("zeros", b"\0" * 40_000_000)),
    "a bomb that claims 4 GB": _with(Member("zeros", ZEROS, told_size=4_000_000_000)),
    "overlapping entries": _overlapping(),
    "quoted overlapping entries": _quoting(),
    "more content than claimed": _with(Member("zeros", ZEROS, told_size=10)),
    "less content than claimed": _with(Member("zeros", b"short", told_size=10)),
    "a wrong CRC": _with(Member("a.py", told_crc=1)),
    "data that does not inflate": _with(Member("a.py", packed=b"\xff" * 20)),
    "data that ends early": _with(Member("a.py", ZEROS, packed=pack(ZEROS)[:-10])),
    "data behind the end of the data": _with(Member("a.py", packed=pack(b"x = 1\n") + b"hidden")),
    "an encrypted entry": _with(Member("a.py", flags=0x1)),
    "a strongly encrypted entry": _with(Member("a.py", flags=0x41)),
    "a masked directory": _with(Member("a.py", flags=0x2000)),
    "a method nobody reads": _with(Member("a.py", method=12)),
    "another name in the local header": _with(Member("a.py", local_name=b"b.py")),
    "another method in the local header": _with(Member("a.py", local_method=0)),
    "zip64 sizes that are not there": _zip64_lie(),
    "a zip64 directory of 2^40 entries": _zip64_end(1 << 40),
    "a zip64 directory of two entries that are one": _zip64_end(2),
    "a zip64 locator that points elsewhere": _zip64_end(1, at=-7),
    "fewer entries than there are": _with(Member("a.py"), told_count=1),
    "more entries than there are": _with(Member("a.py"), told_count=3),
    "a truncated end": PLAIN[:-5],
    "a truncated beginning": PLAIN[10:],
    "only the directory": PLAIN[PLAIN.index(b"PK\1\2") :],
    "data behind it": _with(behind=b"\0"),
    "a second zip behind it": PLAIN + PLAIN,
    "an executable before it": _with(before=b"#!/bin/sh\nexec evil\n"),
    "an executable before it, with offsets that say so": _with(before=b"#!/bin/sh\n", shifts_offsets=True),
    "an offset beyond the end": _with(Member("a.py", at=1 << 31)),
    "a packed size beyond the end": _with(Member("a.py", told_packed=1 << 31)),
}


@pytest.mark.parametrize("made", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_package_is_refused_and_leaves_nothing(made, tmp_path):
    content = _content(made)
    package = _file(tmp_path, content)
    into = tmp_path / "code"
    into.mkdir()
    with pytest.raises(InvalidParameter):
        check(package)
    with pytest.raises(InvalidParameter):
        extract(package, into, sha256(content).hexdigest())
    assert list(into.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "package.zip"]


LAWFUL = {
    "deflated": lawful({"app.py": b"x = 1\n", "lib/a.py": b"y = 2\n"}),
    "stored": lawful({"app.py": b"x = 1\n"}, zipfile.ZIP_STORED),
    "an empty file in it": lawful({"app.py": b"", "a/__init__.py": b""}),
    "folders of their own": lawful({"a/": b"", "a/app.py": b"x = 1\n"}),
    "a comment": Archive([APP], comment=b"made by hand").bytes(),
    "names that are not ASCII": lawful({"dönerbude.py": b"x = 1\n", "置き場/a.py": b"y = 1\n"}),
    "cp437 names": Archive([Member(b"\x81ber.py")]).bytes(),
    "a zip64 directory": _zip64_end(1),
    "zeros, below the floor": Archive([Member("table.bin", b"\0" * 15_000_000)]),
    "a name of 255 bytes": lawful({"x" * 255: b"x"}),
}


@pytest.mark.parametrize("made", LAWFUL.values(), ids=LAWFUL.keys())
def test_a_lawful_package_is_unpacked_as_it_was_packed(made, tmp_path):
    content = _content(made)
    digest = sha256(content).hexdigest()
    package = _file(tmp_path, content)
    (tmp_path / "code").mkdir()
    assert check(package).sha256 == digest
    folder = extract(package, tmp_path / "code", digest)
    assert folder == tmp_path / "code" / digest
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            expected = None if info.is_dir() else archive.read(info)
            found = folder / info.filename
            assert found.is_dir() if expected is None else found.read_bytes() == expected


def test_ten_thousand_files_are_not_too_many(tmp_path):
    assert check(_file(tmp_path, _many(10_000).bytes())).files == 10_000


def test_a_streamed_zip_with_descriptors_is_read(tmp_path):
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.written = bytearray()

        def writable(self):
            return True

        def write(self, data):
            self.written += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", "x = 1\n" * 100)
    assert check(_file(tmp_path, bytes(pipe.written))).unzipped_bytes == 600


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP is not installed here")
def test_what_info_zip_streams_is_read(tmp_path):
    (tmp_path / "app.py").write_text("x = 1\n" * 100)
    streamed = subprocess.run(["zip", "-q", "-", "app.py"], cwd=tmp_path, check=True, capture_output=True).stdout
    assert check(_file(tmp_path, streamed)).unzipped_bytes == 600


def test_executable_bits_are_kept_and_all_others_dropped(tmp_path):
    content = Archive([Member("run.sh", mode=0o100777), Member("app.py", mode=0o100000)]).bytes()
    folder = extract(_file(tmp_path, content), tmp_path, sha256(content).hexdigest())
    assert stat.S_IMODE((folder / "run.sh").stat().st_mode) == 0o755 & ~_umask()
    assert stat.S_IMODE((folder / "app.py").stat().st_mode) == 0o644 & ~_umask()


def test_a_package_that_is_not_the_one_stored_is_the_platforms_fault(tmp_path):
    with pytest.raises(PlatformError, match="damaged"):
        extract(_file(tmp_path, LAWFUL["deflated"]), tmp_path, "0" * 64)


def test_a_package_is_unpacked_once(tmp_path):
    content = LAWFUL["deflated"]
    package, digest = _file(tmp_path, content), sha256(content).hexdigest()
    (extract(package, tmp_path, digest) / "made-later").touch()
    assert (extract(package, tmp_path, digest) / "made-later").exists()


def test_a_leftover_of_a_crash_is_in_nobodys_way(tmp_path):
    content = LAWFUL["deflated"]
    digest = sha256(content).hexdigest()
    (tmp_path / f".{digest[:16]}.crashed").mkdir()
    assert extract(_file(tmp_path, content), tmp_path, digest).is_dir()


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,2}", fullmatch=True), st.binary(max_size=200), min_size=1)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings.default.max_examples // 2)
def test_every_package_that_is_accepted_holds_exactly_what_was_put_in(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("package")
    content = lawful(files)
    package = _file(folder, content)
    folders = {name[:at] for name in files for at in range(len(name)) if name[at] == "/"}
    if folders & files.keys():
        with pytest.raises(InvalidParameter, match="both a file and a folder"):
            check(package)
        return
    unpacked = extract(package, folder, sha256(content).hexdigest())
    found = {str(path.relative_to(unpacked)): path.read_bytes() for path in unpacked.rglob("*") if path.is_file()}
    assert found == files


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings.default.max_examples * 3)
def test_a_damaged_package_is_refused_or_still_whole(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("package")
    content = bytearray(_with(Member("lib/a.py", b"y = 2\n" * 50)).bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        extract(_file(folder, bytes(content)), folder, sha256(content).hexdigest())
    except InvalidParameter:
        assert [path.name for path in folder.iterdir()] == ["package.zip"]
    else:
        unpacked = folder / sha256(content).hexdigest()
        contents = {path.read_bytes() for path in unpacked.rglob("*") if path.is_file()}
        assert contents <= {APP.content, b"y = 2\n" * 50}


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_hostile_archives_are_not_all_refused_for_being_no_archives():
    """The table would prove nothing if its builder wrote nonsense: most of it Python's own reader accepts."""
    accepted = 0
    for made in HOSTILE.values():
        try:
            with zipfile.ZipFile(io.BytesIO(_content(made))) as archive:
                accepted += bool(archive.infolist())
        except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, zlib.error):
            continue
    assert accepted > len(HOSTILE) * 0.6
