"""When each image was last used, and which ones a run needs just now.

One empty file for each image and engine: its time of change is the last use, and a shared lock on
it says that a run is in progress. The lock ends with its process, also by SIGKILL.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runner.domain import BenchmarkSubmission, Image
from runner.engine import EngineClient
from runner.errors import EngineFailed, StorageFailed
from runner.images.reference import inspect
from runner.ports import ImageProvider, Say

MOST_PREPARATIONS = 3
_IMAGE_ID = re.compile(r"sha256:([0-9a-f]{64})")


class ImageUse:
    """The notes of one engine, in `directory`; for any number of processes at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def note(self, image_id: str) -> None:
        """The image is used now; waits while it is being removed. Raises StorageFailed."""
        with self.held(image_id):
            pass

    @contextmanager
    def held(self, image_id: str) -> Iterator[None]:
        """Within it no clean-up removes the image, which counts as used until its end.

        Blocks while it is being removed (see `NotedImages`). Raises StorageFailed.
        """
        with self._writing():
            descriptor = self._locked(image_id, fcntl.LOCK_SH, os.O_CREAT)
        try:
            yield
        finally:
            with suppress(OSError):
                os.utime(descriptor)
            os.close(descriptor)

    def last(self, image_id: str, made_at: float) -> float:
        """When it was last used, in seconds since 1970; `made_at` if that was never noted.

        Then it is noted, so that the image can be `claimed`. Raises StorageFailed.
        """
        path = self._path(image_id)
        with self._writing():
            if not path.exists():
                self._begin(path, made_at)
            return path.stat(follow_symlinks=False).st_mtime

    @contextmanager
    def claimed(self, image_id: str) -> Iterator[bool]:
        """Whether no run holds the image; if so, none can take hold of it within the block.

        False also for one that nobody has noted. Raises StorageFailed.
        """
        try:
            with self._writing():
                descriptor = self._locked(image_id, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)

    def forget(self, image_id: str) -> None:
        """The image is gone; to be called while it is `claimed`."""
        with suppress(OSError):
            self._path(image_id).unlink()

    def forget_all_but(self, image_ids: Collection[str], *, older_than: float) -> None:
        """Drops notes of other images, unless they are newer (seconds since 1970) or held."""
        kept = {self._path(image_id).name for image_id in image_ids}
        for name in self._names() - kept:
            image_id = f"sha256:{name}"
            with self.claimed(image_id) as free:
                if free and self.last(image_id, 0.0) < older_than:
                    self.forget(image_id)

    def any_held(self) -> bool:
        """Whether any run is in progress."""
        return any(not self._is_free(name) for name in self._names())

    def _is_free(self, name: str) -> bool:
        with self.claimed(f"sha256:{name}") as free:
            return free

    def _begin(self, path: Path, made_at: float) -> None:
        """A note with that time, unless there is one by now: linked, so it is never seen newer."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._directory, prefix=".") as file:
            os.utime(file.fileno(), (made_at, made_at))
            with suppress(FileExistsError):
                os.link(file.name, path)

    def _names(self) -> set[str]:
        try:
            names = {path.name for path in self._directory.iterdir()}
        except FileNotFoundError:
            return set()
        return {name for name in names if _IMAGE_ID.fullmatch(f"sha256:{name}")}

    def _path(self, image_id: str) -> Path:
        found = _IMAGE_ID.fullmatch(image_id)
        if found is None:
            raise StorageFailed(f"{image_id!r} is no image id", remedy="report this: it is a fault")
        return self._directory / found[1]

    def _locked(self, image_id: str, how: int, create: int = 0) -> int:
        """The note, locked under the name it still has; with `create` made, and of now."""
        path = self._path(image_id)
        while True:
            if create:
                self._directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | create, 0o600)
            try:
                fcntl.flock(descriptor, how)
                if _is_at(path, descriptor):
                    if create:
                        os.utime(descriptor)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # it was forgotten while we waited: a lock on it says nothing

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (BlockingIOError, FileNotFoundError):
            raise
        except OSError as error:
            raise StorageFailed(
                f"cannot write {self._directory}: {error.strerror}",
                remedy="free some space, or set storage.state_dir to a directory of yours",
            ) from error


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


class NotedImages:
    """An `ImageProvider` that notes the use of what another one makes.

    An image that a clean-up was removing at that moment is made again.
    """

    def __init__(self, images: ImageProvider, engine: EngineClient, use: ImageUse) -> None:
        self._images = images
        self._engine = engine
        self._use = use

    async def prepare(self, submission: BenchmarkSubmission, say: Say) -> Image:
        """As the other one's; raises StorageFailed besides."""
        for _ in range(MOST_PREPARATIONS):
            image = await self._images.prepare(submission, say)
            await asyncio.to_thread(self._use.note, image.image_id)
            if await inspect(self._engine, image.image_id) is not None:
                return image
        raise EngineFailed(
            "the submission's image was removed while it was prepared",
            remedy="see what removes images on this engine, then run it again",
        )
