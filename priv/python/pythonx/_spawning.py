"""What makes `multiprocessing` work with functions and classes of evaluations, and pools that cannot work end."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import threading

import _pythonx

from pythonx import _main, _sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator
    from types import CodeType, ModuleType
    from typing import Any

_NAME = "_pythonx_spawned"
_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "spawned")

# How many workers of a pool may end one after another, by signals or os._exit(), without a result in between.
_MOST_DEATHS = 10


def hook_reduction(_reduction: ModuleType) -> None:
    """Send what evaluations define along with whatever `multiprocessing` pickles."""
    module = sys.modules.get(_NAME)
    if module is None:
        spec = importlib.util.spec_from_file_location(_NAME, os.path.join(_FOLDER, _NAME + ".py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[_NAME] = module
        spec.loader.exec_module(module)
        module.runs_evaluations = True
        module.namespace_of = _namespace_of
        module.statement_of = _statement_of
    _reduction.ForkingPickler.reducer_override = staticmethod(module.reduce)


def hook_spawn(spawn: ModuleType) -> None:
    """Let processes that are started find the module that loads what they are sent."""
    original = spawn.get_preparation_data

    @functools.wraps(original)
    def get_preparation_data(name: str) -> dict[str, Any]:
        data = original(name)
        data["sys_path"] = [*data.get("sys_path", sys.path), _FOLDER]
        return data

    spawn.get_preparation_data = get_preparation_data


def _namespace_of(subject: type) -> dict[str, Any] | None:
    root = subject.__qualname__.partition(".")[0]
    own = _main.own_names(_pythonx.current_main())
    names = _main.home_names(subject)
    if names is None or root not in names:
        # The evaluation that has made it has not ended.
        names = own if root in own else names
    return names


def _statement_of(subject: type, name: str) -> CodeType | None:
    """Return the code of the statement that has bound a name at the top of an evaluation, None when there is none."""
    import __future__

    import ast

    source = next((source for source, _lines in _sources.sources_of(subject)), None)
    if source is None:
        return None
    text, first = source
    found, flags = None, 0
    for node in _statements(ast.parse(text)):
        if name in _bound_by(node):
            found = node
        elif isinstance(node, ast.ImportFrom) and node.module == "__future__":
            for alias in node.names:
                flags |= getattr(__future__, alias.name).compiler_flag
    if found is None:
        return None
    module = ast.Module([ast.increment_lineno(found, first - 1)], [])
    return compile(module, "<string>", "exec", flags, dont_inherit=True)


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements outside of functions and classes, those in others included."""
    import ast

    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.expr)):
            yield from _statements(node)


def _bound_by(node: ast.stmt) -> list[str]:
    import ast

    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    simple = isinstance(node, (ast.Assign, ast.AnnAssign))
    return [target.id for target in targets if simple and isinstance(target, ast.Name)]


# --- Pools ----------------------------------------------------------------------------------------------------------


class _Watched:
    """A pool of `multiprocessing`, by the list of its workers."""

    def __init__(self, workers: list[Any], cache: dict[int, Any]) -> None:
        self.workers = workers
        self.cache = cache
        self.deaths = 0
        self.waiting = 0
        self.error: RuntimeError | None = None

    def may_replace(self, ended: list[Any]) -> bool:
        """Return False when workers that have ended are not to be replaced any more."""
        codes = [worker.exitcode for worker in ended if worker.exitcode != 0]
        waiting = sum(getattr(job, "_number_left", 1) for job in list(self.cache.values()))
        self.deaths = len(codes) + (self.deaths if waiting >= self.waiting else 0)
        self.waiting = waiting
        if self.error is None and 1 in codes:
            # A task that raises does not end its worker: this was raised before there was one, or as it was loaded.
            self.error = RuntimeError(
                "the workers of this multiprocessing pool cannot work: one has ended with exit code 1 outside of a "
                "task. What it says is on the standard error of the VM. Usual reasons: an initializer that raises, "
                "a task that calls sys.exit(), arguments that the worker cannot import or load"
            )
        elif self.error is None and self.deaths > _MOST_DEATHS:
            self.error = RuntimeError(
                f"the workers of this multiprocessing pool end one after the other, the last of {self.deaths} with "
                f"exit code {codes[-1]}, and no result has come meanwhile"
            )
        return self.error is None


def _fail_all(cache: dict[int, Any], error: BaseException) -> None:
    """Raise the error in whoever waits for a result of the pool."""
    for job in list(cache.values()):
        if isinstance(job, sys.modules["multiprocessing.pool"].MapResult) and not hasattr(
            job, "_number_left"
        ):
            continue  # one that is just being made
        if hasattr(job, "_event"):
            job._success, job._value = False, error
            cache.pop(job._job, None)
            if job._error_callback:
                job._error_callback(error)
            job._event.set()
        else:  # an iterator over results
            with job._cond:
                job._items.append((False, error))
                job._length = job._index + 1
                cache.pop(job._job, None)
                job._cond.notify_all()


class _BrokenError(Exception):
    """The workers of a pool are not to be replaced any more."""


_watched: dict[int, _Watched] = {}


def hook_pool(module: ModuleType) -> None:
    """Have a pool whose workers end as they begin raise an error, rather than start others for ever."""
    pool = module.Pool
    handle, join, check = pool._handle_workers, pool._join_exited_workers, pool._check_running
    results = pool._handle_results

    def _handle_workers(
        cls: type, cache: Any, taskqueue: Any, ctx: Any, make: Any, count: int, workers: Any, *rest: Any
    ) -> None:
        watched = _watched[id(workers)] = _Watched(workers, cache)
        try:
            handle.__func__(cls, cache, taskqueue, ctx, make, count, workers, *rest)
        except _BrokenError:
            # As the original goes on, but for the workers.
            thread = threading.current_thread()
            while thread._state == module.RUN or (cache and thread._state != module.TERMINATE):
                _fail_all(cache, watched.error)
                cls._wait_for_updates(*rest[-2:], timeout=0.1)
            taskqueue.put(None)
        finally:
            _watched.pop(id(workers), None)

    def _join_exited_workers(workers: list[Any]) -> bool:
        before = list(workers)
        some_ended = join(workers)
        watched = _watched.get(id(workers))
        ended = [worker for worker in before if worker not in workers]
        if watched is not None and not watched.may_replace(ended):
            raise _BrokenError
        return some_ended

    def _check_running(self: Any) -> None:
        check(self)
        watched = _watched.get(id(self._pool))
        if watched is not None and watched.error is not None:
            raise watched.error

    def _handle_results(outqueue: Any, get: Any, cache: Any) -> None:
        def get_result() -> Any:
            while True:
                try:
                    return get()
                except (OSError, EOFError):
                    raise
                except Exception as error:
                    # A result that cannot be loaded does not say whose it is.
                    _fail_all(cache, error)

        results(outqueue, get_result, cache)

    pool._handle_results = staticmethod(functools.wraps(results)(_handle_results))
    pool._handle_workers = classmethod(functools.wraps(handle)(_handle_workers))
    pool._join_exited_workers = staticmethod(functools.wraps(join)(_join_exited_workers))
    pool._check_running = functools.wraps(check)(_check_running)
