"""`.npz` files that may hold pickled objects, read without unpickling."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from streamkp.errors import ModelError, UsageError
from streamkp.models import npy_pickle

MAX_BYTES = 4 << 30


def read(path: Path) -> dict[str, Any]:
    """The entries by name: arrays, or for arrays of objects what they hold (see `npy_pickle.loads`).

    Raises `UsageError`, naming the file, when it is not an npz of plain data of at most 4 GB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise UsageError(f"{path} holds more than {MAX_BYTES >> 30} GB")
            return {m.filename.removesuffix(".npy"): npy_pickle.loads(archive.read(m)) for m in members}
    except ModelError as error:
        raise UsageError(f"{path}: {error}") from None
    except zipfile.BadZipFile as error:
        raise UsageError(f"{path} is not an .npz file, or damaged: {error}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
