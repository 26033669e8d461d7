"""Tell a supervisor how we are. Protocol: sd_notify(3), one datagram for each message."""

import logging
import os
import socket
from collections.abc import Mapping

_log = logging.getLogger(__name__)


class Notifier:
    """Sends READY=1, WATCHDOG=1 and STOPPING=1 to the socket a supervisor named; to nobody without one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in the abstract namespace, whose names begin with a zero byte.
        self._address = f"\0{name[1:]}" if name.startswith("@") else name

    def __call__(self, word: str) -> None:
        """Send one message. A supervisor that does not listen is no reason to stop working."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as wire:
                wire.settimeout(1)
                wire.sendto(word.encode(), self._address)
        except OSError as error:
            _log.debug("NOTIFY_SOCKET: %s", error.strerror)
