"""Starting the app: one process, this machine only, a token that nobody else has."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import InputMismatch, ToolMissing

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 8750, 40


def state_folder() -> Path:
    """Where sessions are kept unless somebody says otherwise: ``$XDG_STATE_HOME/bitwright``."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "bitwright" / "sessions"


def require_tools() -> None:
    """See that what the app needs is installed.

    Raises:
        ToolMissing: with the command that installs it.
    """
    try:
        import multipart  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ToolMissing(
            f"The app needs {error.name or 'starlette'}, which is not installed: pip install 'bitwright[app]'",
            tool=error.name or "starlette",
            install="pip install 'bitwright[app]'",
        ) from error


def listening(port: int | None) -> socket.socket:
    """A socket of this machine; with None the first free port from :data:`FIRST_PORT`.

    Raises:
        InputMismatch: if the port is taken.
    """
    wanted = range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else (port,)
    for number in wanted:
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, number))
        except OSError:
            found.close()
            continue
        return found
    what = f"Port {port} is" if port is not None else f"Ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1} are"
    raise InputMismatch(f"{what} taken by another program: give a free one with --port.")


def serve(
    item: str = "",
    *,
    port: int | None = None,
    folder: Path | None = None,
    settings: Any = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the app until it is interrupted.

    Args:
        item: A network or ``.bw`` file to open at once.
        port: The port; None takes the first free one.
        folder: Where sessions are kept.
        settings: What differs from the usual settings, for ``item``.
        ready: Called with the address, token included, once it answers.

    Raises:
        ToolMissing: if starlette or uvicorn are not installed.
        BitwrightError: if ``item`` cannot be opened or the port is taken.
    """
    require_tools()
    import uvicorn

    from bitwright.app.guard import Guard
    from bitwright.app.jobs import Worker
    from bitwright.app.routes import Routes
    from bitwright.app.session import Sessions

    worker = Worker()
    sessions = Sessions(folder or state_folder())
    routes = Routes(sessions, worker)
    threading.Thread(target=routes.warm, daemon=True).start()
    place = ""
    if item:
        session = routes.opener.path(item, settings)
        place = f"s/{session.name}"
    found = listening(port)
    number = int(found.getsockname()[1])
    token = secrets.token_urlsafe(24)
    config = uvicorn.Config(
        Guard(routes.app(), token, number),
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        lifespan="off",
    )
    address = f"http://{HOST}:{number}/{place}?token={token}"
    server = announcing(config, lambda: ready(address) if ready is not None else None)
    try:
        server.run(sockets=[found])
    finally:
        worker.stop()


def announcing(config: uvicorn.Config, ready: Callable[[], None]) -> uvicorn.Server:
    """A server that calls ``ready`` once it answers."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                ready()

    return Server(config)
