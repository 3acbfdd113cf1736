"""The template of a CLI: a process that has imported it, and that forks for each run. The CLI's own interpreter runs
this file (`python template.py DESCRIPTOR CONFIG`), so it imports nothing but the standard library.

The descriptor is a socket of the worker. On it come requests, each with a socket of its own and the descriptor of a
log, and on it the template says when it is ready and why it ends. The child says on its own socket that it is set up,
waits for the word to go, and becomes the CLI; there the template says how that ended. When the worker and its
work-horse are gone, the template ends its children and itself.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import gc
import importlib.machinery
import importlib.util
import itertools
import json
import os
import runpy
import select
import signal
import socket
import sys
import sysconfig
import time
import types
from collections.abc import Iterator
from typing import Any, NoReturn

OWN_WORDS = 3  # of the command line: this file, the descriptor, the configuration
ROOM = "BUGNINJA_TEMPLATE"  # the variable whose long value makes room for those of a run; it also tells our shim
ARGUMENTS, ENVIRONMENT = (48, 49), (50, 51)  # fields of /proc/PID/stat: where these begin and end, see proc(5)
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36  # of Linux's prctl(2)
TICK = 50  # milliseconds between two looks at children that have ended
ENDING_SECONDS = 2.0  # until children that were sent SIGKILL must be gone
DEVICES = ("/dev/null", "/dev/random", "/dev/urandom")
SETTINGS = (".env", "pyproject.toml", "uv.lock", "uv.toml", ".python-version")
GO = b"go"
MESSAGE_BYTES = 256 * 1024  # more than a socket takes
WORDS = 10_000  # characters of a reason; the worker shows less, without the secrets in it
Identity = tuple[int, int, int]


class Unfit(Exception):
    """This CLI cannot be forked, or not any more; the text says why."""


class Memory:
    """A range of this process' memory that others read in /proc: its arguments, or its environment."""

    def __init__(self, fields: tuple[int, int]) -> None:
        with open("/proc/self/stat") as file:
            values = file.read().rpartition(")")[2].split()
        self.address, end = (int(values[field - 3]) for field in fields)
        self.length = end - self.address

    def narrow(self, name: str) -> None:
        """From now on only the place of this variable. Raises `Unfit` if there is none."""
        content = b"\0" + ctypes.string_at(self.address, self.length)
        at = content.find(b"\0" + name.encode() + b"=")
        if at < 0:
            raise Unfit(f"what starts it does not pass on the environment ({name})")
        self.address += at
        self.length = content.index(b"\0", at + 1) - at - 1

    def write(self, text: str) -> None:
        """Let them read this, and after a zero byte nothing but x."""
        content = os.fsencode(text)[: self.length - 2] + b"\0"
        ctypes.memmove(self.address, content.ljust(self.length, b"x"), self.length)


class Program:
    """The script, or the module after `-m`, that the command of the CLI names."""

    def __init__(self, words: list[str]) -> None:
        """Find it, and make `sys.path` what it will be. Raises `Unfit`."""
        self.module = words[1] if words[0] == "-m" else None
        if self.module:
            _begin_path_with(os.getcwd())
            self.path = _find_module(self.module)
        else:
            self.path = _find_script(*words)
            _begin_path_with(os.path.dirname(os.path.realpath(self.path)))
        self._python = sys.orig_argv[:-OWN_WORDS]
        sys.argv, sys.orig_argv = [self.path], self.words([])
        with open(self.path, "rb") as file:
            self._source = file.read()

    def import_all(self) -> None:
        """Import what it imports at its top, before it does anything else: that may be for a later import."""
        tree = ast.parse(self._source, self.path)
        tree.body = [*itertools.takewhile(_is_import_or_text, tree.body)]
        package = importlib.util.find_spec(self.module).parent if self.module else None  # type: ignore[union-attr]
        exec(compile(tree, self.path, "exec"), {"__name__": "__main__", "__package__": package})

    def words(self, rest: list[str]) -> list[str]:
        """The whole command line of a run."""
        return [*self._python, *(["-m", self.module] if self.module else [self.path]), *rest]

    def run(self, rest: list[str]) -> None:
        """Do what the interpreter does that is started with this command line."""
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        vars(main).update(__annotations__={}, __builtins__=sys.modules["builtins"])
        sys.orig_argv = self.words(rest)
        if self.module:
            sys.argv = ["-m", *rest]
            runpy._run_module_as_main(self.module)  # type: ignore[attr-defined]
        else:
            sys.argv = [self.path, *rest]
            path = os.path.join(os.getcwd(), self.path)
            loader = importlib.machinery.SourceFileLoader("__main__", path)
            vars(main).update(__file__=path, __loader__=loader, __cached__=None)
            exec(compile(self._source, path, "exec"), vars(main))


def _is_import_or_text(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _begin_path_with(folder: str) -> None:
    """Put it where Python has put the folder of this file, unless it was told not to."""
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path[0] = folder


def _find_module(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    if spec is None or spec.origin is None or not spec.has_location:
        raise Unfit(f"there is no source of the module {name}")
    return spec.origin


def _find_script(path: str, name: str = "") -> str:
    """This file, or with a name (after `--console-script`) that console script."""
    path = os.path.join(sysconfig.get_path("scripts"), name) if name else path
    if not os.path.isfile(path):
        raise Unfit(f"there is no script {path}")
    return path


class Sources:
    """All in which a new import might find a difference: installed packages, sources outside of them, settings."""

    def __init__(self, script: str, began: float) -> None:
        """Note how everything is, except for modules: they were not imported before `began`, in seconds since 1970."""
        self._began = began * 1e9
        self._packages = sorted({os.path.realpath(folder) for folder in sys.path if _has_packages(folder)})
        paths = [
            script,
            sys.executable,
            os.path.join(sys.prefix, "pyvenv.cfg"),
            os.path.join(os.getcwd(), "bugninja.toml"),
            *filter(os.path.isfile, sys.path),  # archives
        ]
        for folder in [os.getcwd(), *self._packages]:  # where python-dotenv looks, and uv
            paths += [os.path.join(each, name) for each in _with_parents(folder) for name in SETTINGS]
        for folder in self._packages:
            paths += [folder, *map(_installed_file, os.scandir(folder))]
        self._seen = {path: _identity(path) for path in paths if path}

    def add_modules(self) -> None:
        """Add those that were imported from elsewhere, with all files of their packages."""
        installed = tuple(f"{folder}{os.sep}" for folder in (*self._packages, sysconfig.get_path("stdlib")))
        for module in list(sys.modules.values()):
            spec = getattr(module, "__dict__", {}).get("__spec__")  # its own, whatever a lazy module does
            path = getattr(spec, "origin", None) or ""
            if os.path.isabs(path) and not os.path.realpath(path).startswith(installed):
                folders = getattr(spec, "submodule_search_locations", None) or []
                beside = [each.path for folder in folders for each in os.scandir(folder) if each.is_file()]
                for each in (path, *beside):
                    self._seen.setdefault(each, self._unless_new(_identity(each)))

    def changed(self) -> str | None:
        """A path where something else is now; None if there is none."""
        return next((path for path, identity in self._seen.items() if _identity(path) != identity), None)

    def _unless_new(self, identity: Identity | None) -> Identity | None:
        """What was changed since all began may have been imported before that."""
        return None if identity is not None and identity[0] > self._began else identity


def _installed_file(entry: os.DirEntry[str]) -> str:
    """Of a package that is installed: what is written anew when that is done again. Empty for all else."""
    if entry.name.endswith(".dist-info"):
        return os.path.join(entry.path, "RECORD")
    return entry.path if entry.name.endswith((".egg-info", ".egg-link", ".pth")) else ""


def _has_packages(folder: str) -> bool:
    return os.path.basename(folder) in ("site-packages", "dist-packages") and os.path.isdir(folder)


def _with_parents(folder: str) -> list[str]:
    parts = folder.split(os.sep)
    return [os.sep.join(parts[:length]) or os.sep for length in range(1, len(parts) + 1)]


def _identity(path: str) -> Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class NoticedEnvironment:
    """Inside it, notice who reads variables that each run has for itself: such a CLI cannot be imported before."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.read: list[str] = []

    def __enter__(self) -> NoticedEnvironment:
        self._original = original = type(os.environ).__getitem__

        def getitem(environ: Any, name: str) -> str:
            if name in self._names:
                self.read.append(name)
            return original(environ, name)

        type(os.environ).__getitem__ = getitem  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        type(os.environ).__getitem__ = self._original  # type: ignore[method-assign]


@contextlib.contextmanager
def noticed_folders() -> Iterator[list[str]]:
    """Inside it, note the folders that `tempfile` makes: whoever made one removes it at its end, so that the next run
    would miss it."""
    made, original = [], os.mkdir

    def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        original(path, mode, dir_fd=dir_fd)
        if mode == 0o700 and "tempfile" in sys.modules:
            made.append(os.fsdecode(path))

    os.mkdir = mkdir
    try:
        yield made
    finally:
        os.mkdir = original


def import_modules(names: list[str]) -> list[str]:
    """Import these; returns those that are not there, as in another version of the CLI."""
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):
                raise
            missing.append(name)
    return missing


def check_forkable(control: int) -> None:
    """Raise `Unfit` if a fork would be another process than one that has just been started."""
    pid = os.fork()  # libraries that are made for it stop their threads now, as that of NumPy does
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        raise Unfit(f"it has {threads} threads once it is imported")
    if _children():
        raise Unfit("it has started other processes once it is imported")
    with os.scandir("/proc/self/fd") as found:
        opened = [_target(each.path) for each in found if int(each.name) > 2 and int(each.name) != control]
    held = [target for target in opened if target not in (*DEVICES, f"/proc/{os.getpid()}/fd")]
    if held:
        raise Unfit(f"it has {held[0]} open once it is imported")


def _is_temporary(folder: str) -> bool:
    """Whether it is there, in the folder of `tempfile`."""
    return os.path.isdir(folder) and os.path.dirname(folder) == sys.modules["tempfile"].gettempdir()


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return DEVICES[0]  # the descriptor of this very search


def _read_all(pipe: int) -> bytes:
    """What is in the pipe; nobody reads it after that."""
    os.set_blocking(pipe, False)
    with os.fdopen(pipe, "rb", buffering=0) as file:
        return b"".join(iter(lambda: file.read(MESSAGE_BYTES) or b"", b""))


def _children() -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(name))
    return found


class Template:
    """The process that forks. It executes one run at a time."""

    def __init__(self, control: socket.socket, config: dict[str, Any]) -> None:
        self._control, self._config = control, config
        for descriptor in (control.fileno(), config["printed"]):
            os.set_inheritable(descriptor, False)
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._run: socket.socket | None = None  # of the CLI that runs
        self._pid = self._pidfd = self._runs = 0

    def prepare(self) -> None:
        """Import everything. Raises `Unfit`, and whatever the imports raise."""
        began = time.time()
        self._arguments, self._room = Memory(ARGUMENTS), Memory(ENVIRONMENT)
        self._room.narrow(ROOM)
        del os.environ[ROOM]
        self._prctl = prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # of the worker, which imports do not notice
        with NoticedEnvironment(self._config["run_variables"]) as noticed, noticed_folders() as folders:
            self.program = Program(self._config["program"])
            self._sources = Sources(self.program.path, began)
            self.program.import_all()
            missing = import_modules(self._config["imports"])
        if noticed.read:
            raise Unfit(f"it reads {noticed.read[0]} while it is imported")
        if left := [folder for folder in folders if _is_temporary(folder)]:
            raise Unfit(f"it has made {left[0]} while it was imported")
        self._sources.add_modules()
        sys.stdout.flush()
        sys.stderr.flush()
        self._printed = _read_all(self._config["printed"])
        gc.collect()
        gc.freeze()
        check_forkable(self._control.fileno())
        prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)  # now it does notice, unless it was stopped
        self.tell(ready=os.getpid(), seconds=round(time.time() - began, 2), missing=missing)

    def tell(self, **message: object) -> None:
        """Tell the worker."""
        _send(self._control, **message)

    def serve(self) -> list[str]:
        """Fork for each request. Returns in the children only: what follows the program on the command line."""
        while True:
            events = self._poll.poll(TICK if self._reap() else None)
            if any(descriptor == self._control.fileno() for descriptor, _ in events):
                words = self._handle_request()
                if words is not None:
                    return words

    def _reap(self) -> bool:
        """Forget the children that have ended, and say how the CLI did; whether there are others."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._pid and self._run is not None:
                _send(self._run, code=os.waitstatus_to_exitcode(status))
                self._poll.unregister(self._pidfd)
                os.close(self._pidfd)
                self._run.close()
                self._run = None

    def _handle_request(self) -> list[str] | None:
        """Fork, unless there is something against it."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 2)
        except ConnectionResetError:  # they have ended before they have read all that we told them
            message = b""
        if not message:
            self._leave()
        run, log = socket.socket(fileno=descriptors[0]), descriptors[1]
        changed = self._sources.changed()
        refused = f"{changed} has changed" if changed else "its last run is not over" if self._run else None
        try:
            pid = -1 if refused else os.fork()
        except OSError as error:
            pid, refused = -1, f"it cannot be forked ({error.strerror})"
        if pid == 0:
            return self._become_run(run, log, **json.loads(message))
        os.close(log)
        if refused:
            _send(run, refused=refused)
            run.close()
        else:
            self._run, self._pid, self._pidfd = run, pid, os.pidfd_open(pid)
            self._poll.register(self._pidfd, select.POLLIN)
            self._runs += 1
            self.tell(runs=self._runs)
        if changed:
            self.tell(changed=changed)
            os._exit(0)
        return None

    def _become_run(self, run: socket.socket, log: int, words: list[str], environ: dict[str, str]) -> list[str]:
        """In the child: make everything as if it had been started for this run, and wait until it may go."""
        self._control.close()
        os.setsid()
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.close(log)
        os.environ.update(environ)
        self._room.write("\0".join(f"{name}={value}" for name, value in environ.items()))
        self._arguments.write(" ".join(self.program.words(words)))
        self._prctl(PR_SET_NAME, os.fsencode(self._config["name"]), 0, 0, 0)
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()  # that of `random` does so itself
        if "threading" in sys.modules:
            sys.modules["threading"].main_thread()._native_id = os.getpid()  # some versions keep that of the parent
        pidfd = os.pidfd_open(os.getpid())
        with run:
            try:
                socket.send_fds(run, [json.dumps({"pid": os.getpid()}).encode()], [pidfd])
                word = run.recv(len(GO))
            except OSError:  # nobody waits for it any more
                word = b""
            if word != GO:
                os._exit(0)
        os.close(pidfd)
        while self._printed:
            self._printed = self._printed[os.write(1, self._printed) :]
        return words

    def _leave(self) -> NoReturn:
        """Nobody is left who could end the children."""
        deadline = time.monotonic() + ENDING_SECONDS
        while self._reap() and time.monotonic() < deadline:
            for pid in _children():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        os._exit(0)


def _send(where: socket.socket, **message: object) -> None:
    """Send it; nobody may be there any more."""
    with contextlib.suppress(OSError):
        where.send(json.dumps(message).encode())


def hide_own_frames() -> None:
    """Show the exception that ends this process without the lines of this file."""
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        show(kind, error.with_traceback(trace), trace)

    sys.excepthook = hook


def open_template() -> Template:
    """The template that the command line of this process asks for, once everything is imported."""
    control = socket.socket(fileno=int(sys.argv[1]))
    template = Template(control, json.loads(sys.argv[2]))
    try:
        template.prepare()
    except BaseException as error:
        template.tell(failed=(str(error) if isinstance(error, Unfit) else f"{type(error).__name__}: {error}")[:WORDS])
        os._exit(1)
    return template


if __name__ == "__main__":
    _template = open_template()
    _words = _template.serve()
    try:
        _template.program.run(_words)
    except BaseException:
        hide_own_frames()
        raise
