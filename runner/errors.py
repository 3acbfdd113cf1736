"""Everything this project raises on purpose. A message is a sentence for a person; the data stands in attributes."""

QUOTED = 60  # characters of a text that are repeated in an error message


def printable(text: str, length: int = QUOTED) -> str:
    """The text as error messages quote it: printable, on one line, at most so many characters."""
    safe = "".join(c if c.isprintable() else "?" for c in text[: length + 1])
    return safe if len(text) <= length else safe[:length] + "..."


class RunnerError(Exception):
    """The root: whoever catches this catches all that we raise on purpose, and nothing else."""


class SettingsError(RunnerError):
    """The environment cannot be used. `problems` holds one sentence per variable."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("The settings cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems))


class EnvFileBroken(RunnerError):
    """The `.env` file cannot be used. `line` counts from 1; None if that is so of the whole file."""

    def __init__(self, name: str, line: int | None, problem: str) -> None:
        self.line, self.problem = line, problem
        super().__init__(f"{name}{'' if line is None else f', line {line},'} {problem}.")


class NotFound(RunnerError):
    """Something that was asked for by its ID does not exist (or must not be reached under that name)."""


class NoSuchRun(NotFound):
    """No run has this ID."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run '{run_id}'.")


class Gone(RunnerError):
    """Files that were there, and that were deleted on purpose."""


class NotPossible(RunnerError):
    """The thing exists, but its state does not allow the request."""


class RecordUnreadable(NotPossible):
    """The record of a run or batch cannot be used: it is damaged, or of a newer version. `problem` says which."""

    def __init__(self, run_id: str, problem: str, kind: str = "run") -> None:
        self.problem = problem
        super().__init__(f"The record of {kind} '{run_id}' cannot be used: {problem}.")


class OwnershipLost(RunnerError):
    """The run is over, or another process owns it now: whoever gets this leaves it alone."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"Run '{run_id}' is over, or another process owns it.")


class Busy(RunnerError):
    """Another request or process holds what this one needs; it may be sent again in a moment."""


class Invalid(RunnerError):
    """A parameter of a request does not fit."""


class BodyTooLarge(RunnerError):
    """The request's body is larger than any that we read."""


class TooMany(RunnerError):
    """More is asked for at once than is allowed."""


class BodyNotRead(RunnerError):
    """The request's body is of a type that we do not read."""


class TaskBroken(RunnerError):
    """The task's TOML file exists and cannot be used. `path` is relative to the project, `line` counts from 1."""

    def __init__(self, path: str, line: int | None, problem: str) -> None:
        self.path, self.line, self.problem = path, line, problem
        where = path if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {problem}")


class TraversalBroken(RunnerError):
    """The text is not a traversal, or not a whole one."""


class CommandNotStarted(RunnerError):
    """The configured command could not be started at all. `program` is the first word of it."""

    def __init__(self, program: str, problem: str) -> None:
        self.program, self.problem = program, problem
        super().__init__(f"The command '{program}' could not be started: {problem}")


class NotPython(RunnerError):
    """The command of the CLI starts no Python program that could be imported beforehand."""


class ProjectGone(RunnerError):
    """The project's folder is not there (any more)."""

    def __init__(self) -> None:
        super().__init__("The project's folder 'tasks' is gone: PROJECT_ROOT has to be a folder that has it.")


class QueueUnavailable(RunnerError):
    """Redis does not answer, or refuses to write."""


class StorageUnavailable(RunnerError):
    """The project's folder cannot be written to."""
