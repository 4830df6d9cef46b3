"""Python's logging as messages to the Elixir process that logs them."""

from __future__ import annotations

import logging
import threading

import _pythonx

_PROCESS = "Pythonx.Integrations.Logging"


class ElixirHandler(logging.Handler):
    """Sends each record to Elixir's Logger."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record; when there is nobody to take it, do nothing."""
        try:
            process = _pythonx.whereis(_PROCESS)
            if process is not None:
                _pythonx.send(process, _message(record, self.format(record)))
        except Exception:
            self.handleError(record)


def _message(record: logging.LogRecord, text: str) -> tuple[object, ...]:
    try:
        process = _pythonx.self()
    except RuntimeError:
        process = None
    place = (str(record.pathname), int(record.lineno), str(record.funcName))
    return (_pythonx.Atom("pythonx_log"), int(record.levelno), text, str(record.name), place, process)


_attached: tuple[logging.Logger, ElixirHandler, int] | None = None
_lock = threading.Lock()


def attach(name: str | None, level: int) -> None:
    """Send what the logger of that name, or the root logger, gets from `level` on; and uncaught thread errors."""
    global _attached
    detach()
    with _lock:
        logger = logging.getLogger(name)
        handler = ElixirHandler(level)
        _attached = (logger, handler, logger.level)
        logger.addHandler(handler)
        logger.setLevel(level)
        threading.excepthook = _log_thread_error


def detach() -> None:
    """Leave things as they were before."""
    global _attached
    with _lock:
        if _attached is None:
            return
        logger, handler, level = _attached
        _attached = None
        logger.removeHandler(handler)
        logger.setLevel(level)
        threading.excepthook = threading.__excepthook__


def _log_thread_error(args: threading.ExceptHookArgs) -> None:
    attached = _attached
    if attached is None or args.exc_type is SystemExit:
        return
    name = args.thread.name if args.thread is not None else "unknown"
    error = (args.exc_type, args.exc_value, args.exc_traceback)
    traceback, line, path = args.exc_traceback, 0, ""
    while traceback is not None:
        line, path = traceback.tb_lineno, traceback.tb_frame.f_code.co_filename
        traceback = traceback.tb_next
    record = logging.LogRecord(
        "threading", logging.ERROR, path, line, "Exception in thread %s", (name,), error, "run"
    )
    attached[1].handle(record)
