"""One change of one file: of a value in its JSON, of its bytes, or of what it is."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

LONG = 300
"""Characters: more than any file system allows a name to have."""


class Raw(str):
    """A piece of JSON as it is to be written."""


HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 1.5, -0.5, 0.0, 10**7, 10**8, 2**31, 2**63, 10**30, 1e30, 1e308),
    *(Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("9" * 400), Raw("9" * 5000), Raw("-0")),
    *(
        "",
        " ",
        "1",
        "text",
        "NaN",
        "null",
        "a" * LONG,
        "x" * 100_000,
        "\x1b[31mred\x07",
        "\u202ereversed",
        "%d",
        "%s%n",
    ),
    *("../../outside", "/dev/zero", "C:\\x", "a/b", ".", "..", "nul\x00byte", Raw('"\\ud800"'), "[", "(a+)+$", "{{"),
    *([], {}, [None], [[]], {"a": {"b": []}}, [0] * 10_000, ["a"] * 3, [1, "a", None], {"": ""}, {"a": 1}),
    *(Raw("[" * 150 + "]" * 150), Raw("[" * 20_000 + "]" * 20_000), Raw('{"a":' * 500 + "1" + "}" * 500)),
)
_HOSTILE_TEXTS = (
    *("{{ 'a' * 10**10 }}", "{% for a in range(10**9) %}{% for b in range(10**9) %}x{% endfor %}{% endfor %}", "{{"),
    *("{{ 'a'.center(10**10) }}", "{{ raise_exception('\x1b[31m') }}", "{% endfor %}", "{{ messages[9].content }}"),
    *("\x1b[31m", "\ufeff", "\x00", "\n" * 40_000, " " * 50_000, "license: " + "x" * 100_000, "---\n", "'''", "= [[[["),
    *("9" * 5000, "[" * 5000, "1979-05-27T07:32:00Z", "nan", "inf", "true", "-1", "0", '"text"', "{}", "[]"),
)


def mutate(path: Path, random: Random) -> str:
    """Changes the file in one way; says which."""
    if random.random() < 0.08:
        return _of_kind(path, random)
    if random.random() < 0.2:
        return _of_bytes(path, random)
    try:
        return (_of_values if path.suffix in (".json", ".jsonl", ".safetensors") else _of_text)(path, random)
    except (ValueError, RecursionError):  # it is damaged already
        return _of_bytes(path, random)


# --- values ----------------------------------------------------------------------------------------------------------


def _of_values(path: Path, random: Random) -> str:
    """A change of a JSON value: of a whole file, of a line, or of the header of a safetensors file."""
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        length = int.from_bytes(content[:8], "little")
        text, said = _changed(content[8 : 8 + length].decode(), random)
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    elif path.suffix == ".jsonl":
        lines = content.decode().splitlines()
        place = random.randrange(len(lines))
        text, said = _changed(lines[place], random)
        path.write_bytes(b"\n".join([*(line.encode() for line in lines[:place]), text]) + b"\n")
    else:
        text, said = _changed(content.decode(), random)
        path.write_bytes(text)
    return said


def _changed(text: str, random: Random) -> tuple[bytes, str]:
    value = json.loads(text)
    holder, key, where = _place(value, random)
    if holder is None:
        found = random.choice(HOSTILE)
        return _written(found).encode("utf-8", "surrogatepass"), f"all of it = {_short(found)}"
    change = random.choice((_replace, _replace, _replace, _retype, _drop, _repeat, _rename, _borrow))
    said = change(holder, key, value, random)
    return _written(value).encode("utf-8", "surrogatepass"), f"{where}: {said}"


def _place(value: Any, random: Random) -> tuple[Any, Any, str]:
    """A random place: what holds it, its key or number, and its path; a whole file is seldom one."""
    holder, key, path = None, None, ""
    here = value
    while isinstance(here, dict | list) and here and (holder is None or random.random() < 0.75):
        if holder is None and random.random() < 0.01:
            break
        holder, key = here, random.choice(list(here) if isinstance(here, dict) else range(len(here)))
        path += f".{key}"
        here = here[key]
    return holder, key, path[1 : LONG + 1]


def _replace(holder: Any, key: Any, _: Any, random: Random) -> str:
    holder[key] = random.choice(HOSTILE)
    return f"= {_short(holder[key])}"


def _retype(holder: Any, key: Any, _: Any, random: Random) -> str:
    old = holder[key]
    forms: list[Any] = [[old], {"value": old}, [old, old], json.dumps(old)]
    if isinstance(old, int | float):
        forms += [str(old), -old, old + 1, old - 1, old * 1000, float(old), bool(old)]
    if isinstance(old, str):
        forms += [old.upper(), old + "x", old.encode().hex(), len(old), old[:1]]
    if isinstance(old, list):
        forms += [old[:-1], old + old[:1], old[::-1], dict(enumerate(old))]
    holder[key] = random.choice(forms)
    return f"= {_short(holder[key])}"


def _drop(holder: Any, key: Any, _: Any, __: Random) -> str:
    del holder[key]
    return "left out"


def _repeat(holder: Any, key: Any, _: Any, random: Random) -> str:
    other = random.choice(HOSTILE)
    if isinstance(holder, dict):
        holder[Raw(json.dumps(key))] = other
    else:
        holder.insert(key, copy.deepcopy(holder[key]))
    return f"twice, also as {_short(other)}"


def _rename(holder: Any, key: Any, _: Any, random: Random) -> str:
    if not isinstance(holder, dict):
        return _replace(holder, key, _, random)
    name = random.choice(("", "a" * LONG, "\x1b[31m", str(key).upper(), f"{key}s", "__proto__", "../x", "text_config"))
    holder[name] = holder.pop(key)
    return f"called {_short(name)}"


def _borrow(holder: Any, key: Any, whole: Any, random: Random) -> str:
    """Takes what stands elsewhere in the file."""
    other, name, where = _place(whole, random)
    holder[key] = copy.deepcopy(other[name]) if other is not None else None
    return f"= what stands at {where}"


def _written(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        pairs = (
            f"{key if isinstance(key, Raw) else json.dumps(str(key), ensure_ascii=False)}: {_written(item)}"
            for key, item in value.items()
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, Raw) else ascii(value)
    return text if len(text) < 60 else f"{text[:50]}... ({len(text)} characters)"


# --- text, bytes, kinds ----------------------------------------------------------------------------------------------


def _of_text(path: Path, random: Random) -> str:
    """A hostile text in the place of a word, or between two."""
    text = path.read_text(encoding="utf-8")
    words = [match.span() for match in re.finditer(r"[\w.+-]+|\"[^\"\n]*\"", text)] or [(0, 0)]
    start, end = random.choice(words)
    piece = random.choice(_HOSTILE_TEXTS)
    start = end if random.random() < 0.3 else start
    path.write_text(text[:start] + piece + text[end:], encoding="utf-8")
    return f"characters {start} to {end} = {_short(piece)}"


def _of_bytes(path: Path, random: Random) -> str:
    content = bytearray(path.read_bytes())
    place = min(random.randrange(len(content) + 1), random.randrange(len(content) + 1), len(content) - 1)
    change = random.choice(("bit", "cut", "insert", "without", "empty", "mark", "utf-16", "noise", "twice"))
    if change == "bit" and content:
        content[place] ^= 1 << random.randrange(8)
    elif change == "cut":
        del content[place:]
    elif change == "insert":
        content[place:place] = random.randbytes(random.choice((1, 7, 300)))
    elif change == "without":
        del content[place : place + random.choice((1, 30, 3000))]
    elif change == "empty":
        content.clear()
    elif change == "mark":
        content[:0] = b"\xef\xbb\xbf"
    elif change == "utf-16":
        content = bytearray(content.decode("latin-1").encode("utf-16"))
    elif change == "noise":
        content = bytearray(random.randbytes(min(len(content), 5000)))
    else:
        content += bytes(content)
    path.write_bytes(content)
    return f"bytes: {change} at {place}"


def _of_kind(path: Path, random: Random) -> str:
    """Something else in the file's place."""
    changes: list[Callable[[Path], None]] = [_gone, _folder, _huge]
    if sys.platform != "win32":  # where links need a privilege
        changes += [_fifo, _loop, _dangling, _device, _link]
    change = random.choice(changes)
    change(path)
    return f"kind: {change.__name__[1:]}"


def _gone(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _huge(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(5 << 30)


def _fifo(path: Path) -> None:
    path.unlink()
    if sys.platform != "win32":
        os.mkfifo(path)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _link(path: Path) -> None:
    outside = path.parent.parent / f"outside-{path.name}"
    shutil.move(path, outside)
    path.symlink_to(outside)
