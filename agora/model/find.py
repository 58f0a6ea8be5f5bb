"""Which model folder a name means. Goes in: a workspace and a name or path. Comes out: the folder, or an error that lists what there is."""

from __future__ import annotations

import difflib
from pathlib import Path

from agora.errors import UsageError
from agora.settings import DEFAULT_NAME, Workspace


def find_model(workspace: Workspace, wanted: str | None) -> Path:
    """The folder of a model named in the workspace, or given as a path.

    None takes `main`, or the only model there is. Raises UsageError that lists what exists and the nearest name.
    """
    shelf = workspace.folder("models")
    names = sorted(path.parent.name for path in shelf.glob("*/config.json"))
    if wanted is None and (DEFAULT_NAME in names or len(names) == 1):
        return shelf / (DEFAULT_NAME if DEFAULT_NAME in names else names[0])
    if wanted in names:
        return shelf / str(wanted)
    if wanted is not None and (Path(wanted) / "config.json").is_file():
        return Path(wanted)
    if not names:
        exists = f"{shelf} holds no models; make one with: agora train pretrain"
    else:
        close = difflib.get_close_matches(wanted or "", names, n=1, cutoff=0.5)
        exists = (f"did you mean {close[0]!r}? " if close else "") + f"models in {shelf}: {', '.join(names)}"
    if wanted is None:
        raise UsageError(f"no model chosen (--model NAME or FOLDER); {exists}")
    raise UsageError(f"no model {wanted!r}, neither in the workspace nor as a folder with config.json; {exists}")
