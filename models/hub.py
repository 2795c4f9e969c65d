"""Where a model's files come from: a folder, or a repository of the Hugging Face Hub through its local cache."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from models.errors import ModelNotFound
from models.wording import first_ten

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder with a model's files, or a Hub repository at a revision."""

    name: str  # as the user gave it
    revision: str | None = None  # branch, tag or commit; Hub only
    token: str | bool | None = field(default=None, repr=False)  # None: what `hf auth login` stored, if anything
    cache_dir: str | None = None
    local_files_only: bool = False
    force_download: bool = False

    @classmethod
    def split(cls, name: str | os.PathLike[str], kwargs: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Takes what concerns the source out of the keyword arguments of a `from_pretrained`; returns both."""
        ours = {"revision", "token", "cache_dir", "local_files_only", "force_download"}
        source = cls(name=os.fspath(name), **{key: value for key, value in kwargs.items() if key in ours})
        return source, {key: value for key, value in kwargs.items() if key not in ours}

    @property
    def folder(self) -> Path | None:
        """The folder, if it is one."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None

    def find(self, filename: str) -> Path | None:
        """The local path of a file, downloaded if need be; None where the source has no such file.

        Raises:
            ModelNotFound: the source itself is not there, refuses, or cannot be asked.
        """
        folder = self.folder
        if folder is not None:
            path = folder / filename
            return path if path.is_file() else None
        return self._download(filename)

    def require(self, filename: str) -> Path:
        """The local path of a file that must be there.

        Raises:
            ModelNotFound: it is not.
        """
        path = self.find(filename)
        if path is None:
            raise ModelNotFound(f"{self.name}: expected {filename}, {self.describe_files()}")
        return path

    def describe_files(self) -> str:
        """What is there instead of an expected file, for messages."""
        folder = self.folder
        if folder is None:
            return f"found no such file in the Hub repository or its cache ({self._at_revision()})"
        names = [entry.name for entry in folder.iterdir()]
        return f"found {first_ten(names)}" if names else "found an empty folder"

    def _at_revision(self) -> str:
        return f"revision {self.revision or 'main'}"

    def _is_cached(self) -> bool:
        config = try_to_load_from_cache(self.name, "config.json", cache_dir=self.cache_dir, revision=self.revision)
        return isinstance(config, str)

    def _download(self, filename: str) -> Path | None:
        if not _HUB_ID.fullmatch(self.name):
            raise ModelNotFound(f"{self.name}: no such folder, and not a Hub id of the form owner/name")
        try:
            return Path(
                hf_hub_download(
                    self.name,
                    filename,
                    revision=self.revision,
                    token=self.token,
                    cache_dir=self.cache_dir,
                    local_files_only=self.local_files_only,
                    force_download=self.force_download,
                )
            )
        except LocalEntryNotFoundError as error:
            if self._is_cached():  # the repository is known, so the file is one that it does not have
                return None
            raise ModelNotFound(
                f"{self.name}: no such folder, and the Hub could not be asked; its files are not in the cache. "
                "Check the path, or the network and HF_HUB_OFFLINE"
            ) from error
        except EntryNotFoundError:
            return None
        except GatedRepoError as error:
            raise ModelNotFound(
                f"{self.name}: the Hub repository is gated; ask for access on its page and pass a token"
            ) from error
        except RevisionNotFoundError as error:
            raise ModelNotFound(f"{self.name}: the Hub repository has no {self._at_revision()}") from error
        except RepositoryNotFoundError as error:
            raise ModelNotFound(
                f"{self.name}: no such folder and no such Hub repository; a private one needs a token"
            ) from error
        except (HFValidationError, HfHubHTTPError, OSError) as error:
            raise ModelNotFound(f"{self.name}: no such folder, and the Hub did not give {filename}: {error}") from error
