"""Whether what lies in a folder, or at training.checkpoint_url, is of the run that is asked for. Goes in: what run.json says, here and
beside the checkpoints. Comes out: the run's id, or a refusal that says what differs and which setting to change.

The id is random and made once for a run folder; --fresh keeps it, since the folder is the same. Not covered: two folders that are copies
of each other, or two runs of one configuration of which one has no run.json: the second goes on as the first.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agora.config import to_dict
from agora.errors import CheckpointError, OtherRunError, TrainingError
from agora.model.config import ModelConfig
from agora.training.checkpoint_store import Store
from agora.training.config import DIVISION_KEYS, OPERATIONAL_KEYS, TrainingConfig
from agora.training.run_folder import RunFolder
from agora.training.world import World

logger = logging.getLogger(__name__)

ID: Final = "id"
_AREAS: Final = ("kind", "model", "training", "data")


def refuse_other_configuration(path: Path, saved: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raises OtherRunError when `saved`, the run.json of the folder `path`, is of another configuration than `asked`."""
    found = differences(saved, asked)
    if found:
        raise OtherRunError(
            f"{path} holds a run with another configuration: {'; '.join(found[:6])}. "
            "Train under another --name, or start this one again with --fresh"
        )


def differences(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What differs between two records of a run and changes its weights, in words."""
    found = []
    newer = {"model": to_dict(ModelConfig()), "training": to_dict(TrainingConfig())}  # a run from before a setting existed had its default
    for area in _AREAS:
        before, now = {**_flat(newer.get(area, {}), area), **_flat(saved.get(area), area)}, _flat(asked[area], area)
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key) and key.rpartition(".")[2] not in OPERATIONAL_KEYS | DIVISION_KEYS:
                found.append(f"{key} is {before.get(key)!r} there and {now.get(key)!r} here")
    return found


def tell_division(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Warn where cutting the rows of a step otherwise changes more than the order of additions."""
    before, now = (record["training"].get("micro_batch") for record in (saved, asked))
    model = asked["model"]
    if before != now and model["num_experts"] and model["balance_loss_weight"]:
        logger.warning(
            "training.micro_batch was %s and is %s: the balance of experts is judged micro-batch by micro-batch, so losses will differ a "
            "little from those of a run that does not change it", before, now,
        )  # fmt: skip


def _flat(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {path: value}
    return {key: item for name, inner in value.items() for key, item in _flat(inner, f"{path}.{name}").items()}


def id_of_run(folder: RunFolder, asked: Mapping[str, Any], store: Store, world: World, *, resume: bool) -> str:
    """The id of the run that `asked` describes, the same on all processes; nothing is changed. Raises OtherRunError, on all of them, when
    its checkpoint_url holds another run, and CheckpointError when that cannot be read."""
    return world.first_does(
        lambda: _id_here(_local(folder, resume=resume), asked, store, resume=resume), OtherRunError, CheckpointError, TrainingError
    )


def tell_place(store: Store, record: Mapping[str, Any]) -> None:
    """Write beside the checkpoints whose they are. Raises CheckpointError."""
    try:
        store.write_record({key: record[key] for key in (ID, *_AREAS)})
    except OSError as error:
        raise CheckpointError(f"{store.place('run.json')} could not be written: {error}") from error


def _local(folder: RunFolder, *, resume: bool) -> dict[str, Any]:
    try:
        return folder.read("run.json")
    except TrainingError:
        if resume:
            raise
        return {}  # --fresh is the way out of a damaged one


def _id_here(local: Mapping[str, Any], asked: Mapping[str, Any], store: Store, *, resume: bool) -> str:
    url, own = asked["training"]["checkpoint_url"], local.get(ID)
    if url is not None:
        try:
            there, names = store.read_record(), store.names()
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{store.place('run.json')} cannot be read: {error}") from error
        if there:
            return _id_there(there, own, asked, store, resume=resume)
        if names and (local.get("training") or {}).get("checkpoint_url") != url:
            raise _other(store, "which do not say of which run they are, and this folder's run.json does not name them")
    return str(own or uuid.uuid4().hex)


def _id_there(there: Mapping[str, Any], own: str | None, asked: Mapping[str, Any], store: Store, *, resume: bool) -> str:
    """A folder without an id, on a fresh machine, goes on with the run that lies there if that has the same configuration."""
    if own is not None and own != there.get(ID):
        raise _other(store, f"of run {there.get(ID)}, and this is run {own}")
    if own is None and not resume:
        raise _other(store, f"of run {there.get(ID)}, which did not begin in this folder: --fresh would delete them")
    found = differences(there, asked) if own is None else []
    if found:
        raise _other(store, f"of a run with another configuration: {'; '.join(found[:6])}")
    return str(there.get(ID))


def _other(store: Store, whose: str) -> OtherRunError:
    where = store.place("").rstrip("/")
    return OtherRunError(f"{where} holds checkpoints {whose}. Set another training.checkpoint_url=..., or train under another --name")
