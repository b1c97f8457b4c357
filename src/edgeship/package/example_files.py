"""Files of examples that a user names, an evaluation or texts to calibrate with: what they hold, as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeship.errors import EdgeshipError
from edgeship.system import foreign
from edgeship.system.text import decode

_TABLES = {
    ".csv": "read_csv",
    ".tsv": "read_table",
    ".parquet": "read_parquet",
    ".xlsx": "read_excel",
    ".xls": "read_excel",
}
_YAML = (".yaml", ".yml")
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")


@dataclass(frozen=True)
class Kind:
    """A kind of such files, and what is raised about one.

    name: as messages call it. option: where it is named. columns: what those of a table are to be called. once: whether
    it is read once, so that it may be a pipe.
    """

    error: type[EdgeshipError]
    name: str
    option: str
    columns: str
    once: bool = True

    def read(self, path: Path) -> str:
        """The file's text. Raises the kind's error for one that cannot be read, is a table, packed or no UTF-8."""
        try:
            if not self.once and path.is_fifo():
                raise self.error(
                    f"the {self.name} file is read more than once, and a pipe gives its text once",
                    where=str(path),
                    hint="Write the text to a file first.",
                )
            data = foreign.read_bytes(path, named=True)
        except OSError as error:
            raise self.error(
                f"the {self.name} file cannot be read: {error.strerror or error}",
                where=str(path),
                hint=f"Check the path given to {self.option}.",
            ) from error
        self._require_lines(path)
        try:
            text = decode(data)
        except UnicodeDecodeError as error:
            raise self._not_text(path, data[: error.start].count(b"\n")) from error
        if "\0" in text:  # UTF-16 without its mark, or no text at all
            raise self._not_text(path, text[: text.index("\0")].count("\n"))
        return text

    def _not_text(self, path: Path, lines_before: int) -> EdgeshipError:
        return self.error(f"line {lines_before + 1}: not UTF-8", where=str(path), hint="Save the file as UTF-8 text.")

    def _require_lines(self, path: Path) -> None:
        """That a file is not named as one of another kind. Raises with what makes it one of ours."""
        suffix = path.suffix.lower()
        if suffix in _PACKED:
            raise self.error(f"the {self.name} file is packed", where=str(path), hint="Unpack it first.")
        if suffix in _YAML:
            raise self.error(
                f"the {self.name} file is YAML, and JSON Lines are read",
                where=str(path),
                hint='Only --eval reads the YAML of promptfoo. Here each question is a line: {"messages": [...]}',
            )
        if suffix in _TABLES:
            read, lines = f"pandas.{_TABLES[suffix]}({str(path)!r})", str(path.with_suffix(".jsonl"))
            raise self.error(
                f"the {self.name} file is a table, and JSON Lines are read",
                where=str(path),
                hint=f"Call its columns {self.columns}, and write it so, in Python: "
                f"{read}.to_json({lines!r}, orient='records', lines=True)",
            )
