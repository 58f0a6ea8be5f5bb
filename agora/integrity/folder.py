"""The folder workspace/integrity: the last scan, what people ruled on it, and the labels that follow from both, kept in step.

    place = IntegrityFolder(Path("workspace/integrity"))
    result = place.scan_store(store, IntegrityConfig())    # goes on where a killed one stopped
    with place.ledger() as ledger:
        place.publish(ledger)                              # labels.parquet follows scan and ledger

scan/           the last scan (results.py)              work-KEY/   keys of posts, while a scan runs or after it was killed
ledger.db       verdicts and appeals (ledger.py); elsewhere when the environment's AGORA_LEDGER_URL names a database
labels.parquet  what later stages read (labels.py)
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from agora.config import apply_overrides
from agora.errors import MissingExtraError, StoreError
from agora.integrity.batch import POST_COLUMNS
from agora.integrity.config import IntegrityConfig
from agora.integrity.deletion import deleted_from, forget
from agora.integrity.labels import ACCOUNT, DEFAULTS, LABELS_FILE, LabelConfig, labels, write_labels
from agora.integrity.records import ScanResult
from agora.integrity.results import Origin, load_origin, load_scan, save_scan, utc
from agora.integrity.rulings import Rulings
from agora.log import Progress, silent
from agora.posts import sealing
from agora.posts.store import PostStore
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.integrity.ledger import Ledger

LEDGER_FILE: Final = "ledger.db"
LEDGER_VARIABLE: Final = "AGORA_LEDGER_URL"
_SCAN: Final = "scan"
_WORK: Final = "work-"

RAY_PARTITIONS = 64
"""Pieces of work on a Ray cluster: a few per node."""


class IntegrityFolder:
    """One such folder. Nothing is created before it is needed."""

    def __init__(self, root: Path, config: LabelConfig = DEFAULTS) -> None:
        self.root = root
        self.config = config

    @classmethod
    def of(cls, place: Workspace) -> IntegrityFolder:
        """That of a workspace, with the settings of its agora.toml section labels."""
        config = apply_overrides(LabelConfig(), place.defaults("labels"), f"{place.settings_file} [labels]")
        return cls(place.folder("integrity"), config)

    @property
    def scan_folder(self) -> Path:
        """Where the last scan is saved."""
        return self.root / _SCAN

    def load(self) -> ScanResult:
        """The last scan. Raises DataError when there is none or it is damaged."""
        return load_scan(self.scan_folder)

    def ledger(self) -> Ledger:
        """The ledger, opened. Raises MissingExtraError without SQLAlchemy and Alembic."""
        try:
            from agora.integrity.ledger import Ledger
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "sqlalchemy", "integrity", "the ledger of verdicts and appeals") from error
        with self._locked("ledger.lock"):
            return Ledger.open(os.environ.get(LEDGER_VARIABLE) or self.root / LEDGER_FILE)

    def scan_store(
        self,
        store: PostStore,
        config: IntegrityConfig,
        *,
        follows: pa.Table | None = None,
        declared: Mapping[str, str] | None = None,
        created: Mapping[str, int] | None = None,
        ray: str | None = None,
        progress: Progress = silent,
    ) -> ScanResult:
        """Scan the posts of a store and save the result. A killed scan goes on as long as posts and signals are the same.

        `ray` is the address of a Ray cluster that reads the posts (see cluster.py); a killed scan of that kind begins anew.
        Raises StoreError while another scan runs here.
        """
        try:
            from agora.integrity.scan import scan
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "igraph", "integrity", "agora integrity scan") from error
        with self._locked("scan.lock", wait=False):
            read, batches = _snapshot(store, config)
            work = self.root / f"{_WORK}{read.key}"
            self._remove_work(but=work)
            if ray is None:
                result = scan(
                    batches, work, config=config, follows=follows, declared=declared, created=created, num_posts=read.num_posts,
                    progress=progress,
                )  # fmt: skip
            else:
                from agora.integrity.cluster import cluster_scan, use_ray

                use_ray(ray)
                result = cluster_scan(
                    store.to_daft(), work, config=config, follows=follows, declared=declared, created=created,
                    num_posts=read.num_posts, num_partitions=RAY_PARTITIONS, progress=progress,
                )  # fmt: skip
            origin = Origin(
                scanned_at=utc(), store_version=read.version, num_deletions=read.num_deletions, signals=_signal_versions()
            )  # fmt: skip
            with self._locked("result.lock"):
                save_scan(result, self.scan_folder, origin=origin)
            self._remove_work()
        self.forget_deleted(store)
        return self.load()

    def publish(self, ledger: Ledger, *, now: datetime | None = None) -> pa.Table:
        """Make the labels anew from the last scan and all rulings. Trips the circuit breaker when it is time."""
        now = now or datetime.now(timezone.utc)
        with self._locked("labels.lock"):
            result, origin = self.load(), load_origin(self.scan_folder)
            ledger.breaker(now=now, config=self.config)
            table = labels(result, ledger.rulings(), now, config=self.config, scanned_at=origin.scanned_at)
            rows = table.select(["kind", "is_automatic", "account"]).to_pylist()
            ledger.record_issued({row["account"] for row in rows if row["kind"] == ACCOUNT and row["is_automatic"]}, now=now)
            write_labels(table, self.root)
        return table

    def labels(self, result: ScanResult, rulings: Rulings, *, now: datetime | None = None) -> pa.Table:
        """The labels of a scan under some rulings, without writing anything."""
        origin = load_origin(self.scan_folder)
        return labels(result, rulings, now or datetime.now(timezone.utc), config=self.config, scanned_at=origin.scanned_at)

    def forget_deleted(self, store: PostStore) -> bool:
        """Let the store's deletions reach the saved scan, the ledger and the labels. True when there were new ones."""
        if not self.scan_folder.is_dir():
            return False
        with self._locked("result.lock"):  # a scan that ends meanwhile waits: its result must not be replaced by the one read here
            tombstones = store.deletions()
            origin = load_origin(self.scan_folder)
            if tombstones.num_rows == origin.num_deletions:
                return False
            result = self.load()
            deleted = deleted_from(store, result)
            result = forget(result, deleted)
            save_scan(result, self.scan_folder, origin=origin)
            with self.ledger() as ledger:
                ledger.forget(deleted.accounts)
                if (self.root / LABELS_FILE).exists():
                    self.publish(ledger)
            # Noted last: killed before, all of this is done again.
            save_scan(result, self.scan_folder, origin=replace(origin, num_deletions=tombstones.num_rows))
            return True

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold a lock of this folder; it ends with the process, however that ends."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f".{name}").open("a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(f"another scan runs in {self.root}; wait until it ends") from None
            yield

    def _remove_work(self, *, but: Path | None = None) -> None:
        for folder in self.root.glob(f"{_WORK}*"):
            if folder != but:
                shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Read:
    """What a scan reads: `key` names the files and the signals; version, tombstones and posts of the store then."""

    key: str
    version: int
    num_deletions: int
    num_posts: int


def _snapshot(store: PostStore, config: IntegrityConfig) -> tuple[_Read, Iterator[pa.RecordBatch]]:
    """A consistent reading of all posts, with exactly what is read; again when somebody wrote in between."""
    while True:
        read = _Read(_work_key(store, config), store.version, store.deletions().num_rows, store.num_posts)
        batches = store.scan(columns=list(POST_COLUMNS))
        first = next(batches, None)
        if read.key == _work_key(store, config):
            return read, itertools.chain(() if first is None else (first,), batches)
        batches.close()  # type: ignore[attr-defined]


def _work_key(store: PostStore, config: IntegrityConfig) -> str:
    """Names the files that a scan reads and the signals that read them: batches and keys are the same when it is."""
    files = sorted(sealing.read_head(store.folder).files.items())
    text = json.dumps([files, sorted(_signal_versions().items()), config.meaning])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _signal_versions() -> dict[str, int]:
    from agora.integrity.signals import signals

    return {signal.id: signal.version for signal in signals()}
