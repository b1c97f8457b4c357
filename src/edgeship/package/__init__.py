"""What a package folder says: one reader for each fact. A leaf for those who make packages and who run them."""

from edgeship.errors import EngineFailed
from edgeship.system.json_file import Complaint

DAMAGED = Complaint(EngineFailed, "Run `edgeship cache verify` to see which file is damaged.")
"""Of a file of a package that cannot be used, for those who run it."""
