"""Interrupts for what waits in gevent, and the end of its hubs.

A greenlet that waits has given its thread to the hub, another greenlet, which waits in C code for all. An exception
raised there would be the hub's and end the wait of the thread's main greenlet, whoever it was meant for, if it ever
acted: in most threads the hub does not look whether there is one. So the hub itself is asked to throw it into the
greenlet.
"""

from __future__ import annotations

import sys

import _pythonx

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any


def interrupt(frame: FrameType, greenlet: Any, number: int) -> None:
    """Have the hub that a thread waits in throw KeyboardInterrupt into a greenlet.

    Args:
        frame: The one in which the hub runs.
        greenlet: None for the thread's main greenlet.
        number: Of the job, which has to be in that greenlet still when it is thrown.
    """
    hub = frame.f_locals["self"]
    hub.loop.run_callback_threadsafe(_throw, hub.parent if greenlet is None else greenlet, number)


def _throw(greenlet: Any, number: int) -> None:
    if not greenlet.dead and _pythonx.is_interrupted(number):
        greenlet.throw(KeyboardInterrupt)


def destroy_hub() -> None:
    """Destroy this thread's hub, if it has one.

    Nothing goes on with what waits for it, and its event loop holds files.
    """
    module = sys.modules.get("gevent._hub_local")
    hub = None if module is None else module.get_hub_if_exists()
    if hub is not None:
        hub.destroy(destroy_loop=True)
