"""The error tree. Every error a user can cause says what is wrong, the value seen, where, and what to do.

AgoraError                 anything Agora raises on purpose               exit 1
+- UsageError              wrong option, argument or key                  exit 2
|  +- ConfigError          a configuration key or value is wrong
|  |  +- OtherRunError     a run folder holds a run with another configuration
|  +- MissingExtraError    an optional dependency is not installed
|  +- QuerySyntaxError     a search query cannot be read; names the position
+- DataError               input that cannot be read as what it claims
|  +- RecordError          one record of a source is broken (quarantined, not fatal)
|  +- SourceError          a whole file or archive is broken or hostile
|  +- DatabaseError        the database cannot be used: damaged, full, gone
|     +- DatabaseBusyError another process is writing it; the same may be tried again
+- StoreError              the post store is missing, locked or damaged
|  +- StoreBusyError       another process is writing it; the same may be tried again
+- PostIndexError          the index of posts is locked or damaged
|  +- IndexBusyError       another process is writing it; the same may be tried again
+- CheckpointError         a checkpoint is corrupt or belongs to another run
+- TrainingError           training cannot go on (NaN loss, no data left)
+- ModelError              a model folder or configuration cannot be used
+- GenerationError         a generation request cannot be served
   +- ContextLengthError   prompt and answer do not fit the model's context
   +- BusyError            too many requests wait already; try again later
"""

from __future__ import annotations

from typing import Any


class AgoraError(Exception):
    """Base of every error that Agora raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes an error travels as it is, whatever its constructor asks for."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[AgoraError], args: tuple[Any, ...], state: dict[str, Any]) -> AgoraError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UsageError(AgoraError):
    """The command line or an argument is wrong; nothing was done."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key is unknown, or its value has the wrong type or cannot work."""


class OtherRunError(ConfigError):
    """The run folder holds a run with another configuration or other data: it cannot go on as what was asked for."""


class MissingExtraError(UsageError):
    """An optional dependency is missing. The message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}; install it with: pip install 'agora[{extra}]'")


class QuerySyntaxError(UsageError):
    """A search query cannot be read. `position` counts characters from 0; the message shows the place."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class DataError(AgoraError):
    """Input is not what it claims to be."""


class RecordError(DataError):
    """One record cannot become a Post. Importers quarantine it and go on, unless strict."""


class SourceError(DataError):
    """A file or archive as a whole cannot be read, or must not be (zip bomb, path that climbs out)."""


class DatabaseError(DataError):
    """The database cannot be read or written: it is damaged, of another version, its disk is full, its server is gone."""


class DatabaseBusyError(DatabaseError):
    """Another process is writing the database: nothing was changed, and the same may be tried again later."""


class StoreError(AgoraError):
    """The post store is missing, in use by another writer, or damaged."""


class StoreBusyError(StoreError):
    """Another process is writing the store: nothing was changed, and the same may be tried again later."""


class PostIndexError(AgoraError):
    """The index of posts is in use by another writer, or damaged. It can always be made anew from the store."""


class IndexBusyError(PostIndexError):
    """Another process is writing the index: nothing was changed, and the same may be tried again later."""


class CheckpointError(AgoraError):
    """A checkpoint is corrupt, incomplete or belongs to another configuration."""


class TrainingError(AgoraError):
    """Training cannot go on."""


class ModelError(AgoraError):
    """A model folder or model configuration cannot be used."""


class GenerationError(AgoraError):
    """A generation request cannot be served (context too long, unknown model). `param` names the argument at fault."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ContextLengthError(GenerationError):
    """Prompt and answer together are longer than the model's context."""


class BusyError(GenerationError):
    """Too many requests wait already; the same request may be sent again later."""
