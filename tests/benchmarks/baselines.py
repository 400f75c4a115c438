"""What Okiba is measured against, each served by uvicorn with uvloop and httptools: `python -m … KIND PORT`."""

from __future__ import annotations

import sys

import uvicorn


def fastapi_app():
    """An empty FastAPI route."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.post("/empty")
    async def empty() -> None:
        return None

    return app


async def echo_app(scope, receive, send) -> None:
    """A bare ASGI application that reads the body and sends it back."""
    if scope["type"] != "http":
        return
    message = await receive()
    body = message.get("body", b"")
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    app = fastapi_app() if kind == "fastapi" else echo_app
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="error")
