"""What a file that is not of its suffix's format seems to be, by its first bytes."""

from pathlib import Path

from samovar.errors import TargetError

__all__ = ["GIVE", "ZIP", "foreign", "head", "json_start", "peek", "starts_as_pickle", "zip_entry", "zip_names"]

ZIP = b"PK\x03\x04"
GIVE = "give the file of the model"
"""The cure of `foreign` for what is no model, whatever is done to it."""

_HEAD = 512
_AGAIN = "fetch the file again"
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS to the file", "run: git lfs pull"),
    (ZIP, "a zip archive (of PyTorch, Keras or another)", "unpack it, or give it the suffix of its format"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it with gunzip, or with tar -xzf"),
    (b"BZh", "compressed by bzip2", "unpack it with bunzip2"),
    (b"\xfd7zXZ\x00", "compressed by xz", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it with unzstd"),
    (b"\x89HDF\r\n", "an HDF5 file (of Keras, often)", "export the model to ONNX"),
    (b"\x93NUMPY", "a numpy array", GIVE),
    (b"GGUF", "a GGUF file", "export the model to ONNX"),
    (b"\x7fELF", "a native library or program", GIVE),
    (b"%PDF", "a PDF document", GIVE),
)
_PAGES = (b"<!doctype html", b"<html")


def foreign(path: Path) -> TargetError | None:
    """The error for a file whose first bytes are those of something else; None where they say nothing.

    Raises TargetError where it cannot be read.
    """
    found = _kind(head(path))
    return TargetError(f"{path.name} is {found[0]}", found[1]) if found is not None else None


def head(path: Path) -> bytes:
    """The first bytes of a file. Raises TargetError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise TargetError(f"{path} cannot be read: {error.strerror}", "look at its place and permissions") from error


def peek(path: Path, size: int = _HEAD) -> bytes:
    """The first bytes of a file, nothing of one that cannot be read: what `recognise` looks at."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def zip_names(path: Path) -> set[str]:
    """The names in a zip archive, without the folder that PyTorch puts all of them in; empty for what is none."""
    if peek(path, len(ZIP)) != ZIP:
        return set()
    import zipfile  # for those who serve no archive to do without

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return set()
    tops = {name.partition("/")[0] for name in names}
    return {name.partition("/")[2] for name in names} if len(tops) == 1 and "/" in names[0] else set(names)


def zip_entry(path: Path, name: str, size: int = 1 << 20) -> bytes:
    """The first bytes of a file in an archive of PyTorch, whatever folder it puts all of them in."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            found = next((entry for entry in archive.namelist() if entry.partition("/")[2] == name), name)
            with archive.open(found) as file:
                return file.read(size)
    except (zipfile.BadZipFile, KeyError, OSError, ValueError, RuntimeError, NotImplementedError):
        return b""


def json_start(path: Path, *words: str, size: int = 65_536) -> bool:
    """True if a file begins as a JSON object does, and these keys stand in its first bytes."""
    start = peek(path, size)
    return start.lstrip()[:1] == b"{" and all(f'"{word}"'.encode() in start for word in words)


def starts_as_pickle(start: bytes) -> bool:
    """True for the first bytes of a pickle, of protocol 2 to 5."""
    return start[:1] == b"\x80" and b"\x02" <= start[1:2] <= b"\x05"


def _kind(start: bytes) -> tuple[str, str] | None:
    """What it seems to be, and the cure."""
    if not start:
        return "empty", _AGAIN
    for known, kind, cure in _STARTS:
        if start.startswith(known):
            return kind, cure
    if start.lstrip().lower().startswith(_PAGES):
        return "an HTML page: what a server sent in place of the file", f"{_AGAIN}; its address may want a login"
    if starts_as_pickle(start):
        return "a Python pickle", "write a Python class that loads it, and export the model where you can"
    if start[257:262] == b"ustar":
        return "a tar archive", "unpack it with tar -xf"
    if _is_text(start):
        return f"a text that begins with {start[:20].decode('utf-8', 'replace')!r}", GIVE
    return None


def _is_text(start: bytes) -> bool:
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start)
