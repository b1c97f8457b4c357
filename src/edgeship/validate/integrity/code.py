"""Whether a file is code, or may hold some: by its name and its first bytes. Pure, and nothing of it is run.

Suffixes alone say little: PyTorch writes pickles as pytorch_model.bin, and whoever hides a program renames it. This
list has no end, and need have none: what a package may hold is in data.py, and this one says what the rest is.
"""

from __future__ import annotations

import pickletools
import re
import struct
import zlib
from pathlib import PurePosixPath

HEAD_BYTES = 1 << 16
"""So much of a file's begin is looked at where it is a graph or has weights."""
_PROGRAMS = frozenset(
    ".so .dll .dylib .pyd .exe .com .msi .sys .scr .pif .cpl .node .wasm .jar .class .app .elf .ko .o .a .lib".split()  # noqa: SIM905
)
_SCRIPTS = frozenset(
    ".py .pyc .pyw .sh .bash .zsh .fish .csh .ksh .command .bat .cmd .ps1 .psm1 .psd1 .vbs .vbe .wsf".split()  # noqa: SIM905
    + ".hta .js .jse .mjs .cjs .rb .pl .php .lua .tcl .scpt .applescript".split()  # noqa: SIM905
)
_SHORTCUTS = frozenset({".lnk", ".url", ".desktop", ".webloc", ".scf"})
_PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill"})
_OF_MACOS = "a program or library of macOS"
_COMPRESSED = "an archive or a compressed file, in which programs and pickles are not seen"
_MAGIC = {
    b"\x7fELF": "a program or library of Linux",
    b"\xfe\xed\xfa\xce": _OF_MACOS,
    b"\xfe\xed\xfa\xcf": _OF_MACOS,
    b"\xce\xfa\xed\xfe": _OF_MACOS,
    b"\xcf\xfa\xed\xfe": _OF_MACOS,
    b"\xca\xfe\xba\xbe": f"{_OF_MACOS}, or a class of Java",
    b"\xca\xfe\xba\xbf": _OF_MACOS,
    b"\xbe\xba\xfe\xca": _OF_MACOS,
    b"\xbf\xba\xfe\xca": _OF_MACOS,
    b"\0asm": "a module of WebAssembly",
    b"!<arch>\n": "a library, or a package of Debian",
    b"L\0\0\0\x01\x14\x02\0": "a shortcut of Windows",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an installer or a document of Windows, which may hold macros",
    b"PK\x03\x04": "a ZIP archive, as which PyTorch saves pickles",
    b"PK\x05\x06": "a ZIP archive",
    b"\x1f\x8b\x08": _COMPRESSED,
    b"\xfd7zXZ\0": _COMPRESSED,
    b"\x28\xb5\x2f\xfd": _COMPRESSED,
    b"\x04\x22\x4d\x18": _COMPRESSED,
    b"7z\xbc\xaf\x27\x1c": _COMPRESSED,
    b"Rar!\x1a\x07": _COMPRESSED,
    b"LZIP": _COMPRESSED,
    b"MSCF": _COMPRESSED,
    b"ZF0x": "a compressed pickle of joblib, and reading one runs what it says",
}
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
# The older form, which has no mark: its settings, and a length that is not known, as whoever writes a stream says.
_LZMA = re.compile(rb"\x5d\0\0..\xff{8}", re.DOTALL)
_ZLIB = re.compile(rb"x[\x01\x5e\x9c\xda]")
_HDF5, _HDF5_AT = b"\x89HDF\r\n\x1a\n", (0, *(512 << doubled for doubled in range(7)))
_TAR, _TAR_AT = b"ustar", 257
_NUMPY, _NUMPY_OBJECTS = b"\x93NUMPY", re.compile(rb"'descr':[^\n]*'\|O")
_PE_AT = 0x3C
# Systems take blanks before the path, and editors of Windows put a byte order mark before all.
_FIRST_LINE = re.compile(rb"(?:\xef\xbb\xbf)?#![ \t]*/[^\0\r\n]*(?:[\r\n]|\Z)")
# Numbers of Python's versions, before the end of line that all of its compiled files have.
_COMPILED, _COMPILED_END = range(3000, 4000), b"\r\n"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
# Of opcodes with a text or bytes that may be longer than what is looked at, and of a frame.
_LONG = re.compile(rb"[TBX\x8b\x8d\x8e\x95\x96]")
_CALLS = frozenset({"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"})
_ENOUGH_OPCODES = 3


def kind_of(name: str, head: bytes) -> str | None:
    """What kind of code a file is, as words behind "is"; None for none. head: its first HEAD_BYTES or more."""
    return _by_name(name) or _by_content(head)


def _by_name(name: str) -> str | None:
    suffixes = {suffix.lower() for suffix in PurePosixPath(name).suffixes}
    last = PurePosixPath(name).suffix.lower()
    if last in _PROGRAMS or ".so" in suffixes:
        return "a program or a library by its name"
    if last in _SCRIPTS:
        return "a script by its name"
    if last in _SHORTCUTS:
        return "a shortcut by its name, and opening one starts what it says"
    if last in _PICKLES:
        return "a pickle by its name, and reading one runs what it says"
    return None


def _by_content(head: bytes) -> str | None:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if _is_for_windows(head):
        return "a program or library of Windows"
    if _BZIP2.match(head) or _LZMA.match(head) or head[_TAR_AT:].startswith(_TAR) or _is_deflated(head):
        return _COMPRESSED
    if any(head.startswith(_HDF5, place) for place in _HDF5_AT):
        return "a file of HDF5, as which Keras saves models together with code"
    if _FIRST_LINE.match(head):
        return "a script by its first line"
    if head[2:4] == _COMPILED_END and int.from_bytes(head[:2], "little") in _COMPILED:
        return "a compiled script of Python"
    if _is_pickle(head) or (head.startswith(_NUMPY) and _NUMPY_OBJECTS.search(head)):
        return "a pickle by its first bytes, and reading one runs what it says"
    return None


def _is_for_windows(head: bytes) -> bool:
    """Weights may begin with its two letters by chance."""
    if not head.startswith(b"MZ") or len(head) < _PE_AT + 4:
        return False
    [place] = struct.unpack_from("<I", head, _PE_AT)
    return head[place : place + 4] == b"PE\0\0"


def _is_deflated(head: bytes) -> bool:
    """Whether zlib can read them: weights and texts may begin with its two bytes, and hardly go on as it must."""
    if not _ZLIB.match(head):
        return False
    reader, left, made = zlib.decompressobj(), head, b"begun"
    try:
        while made and not reader.eof:
            made = reader.decompress(left, HEAD_BYTES)
            left = reader.unconsumed_tail
    except zlib.error:
        return False
    return reader.eof or len(head) >= HEAD_BYTES


def _is_pickle(head: bytes) -> bool:
    """Whether these are opcodes: to the last, or enough of them behind the mark that pickles have since protocol 2.

    One without the mark, of an older protocol, is any text that can be read so; it is one where it calls something.
    """
    marked = _PICKLE.match(head) is not None
    count, calls = 0, False
    try:
        for opcode, _, _ in pickletools.genops(head):
            count += 1
            calls = calls or opcode.name in _CALLS
    except ValueError:  # no opcode, or the end of the head
        return marked and (count >= _ENOUGH_OPCODES or _LONG.match(head, 2) is not None)
    return marked or calls
