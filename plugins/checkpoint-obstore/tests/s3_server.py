"""A server that speaks the S3 protocol: prints its port, serves until its standard input ends."""

from __future__ import annotations

import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def serve() -> None:
    """Until whoever started this goes, or wants it to go."""
    # One request after the other: two that replace one object at once are too much for moto's own memory.
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    print(server.port, flush=True)
    sys.stdin.read()
    server.shutdown()
    thread.join()


if __name__ == "__main__":
    serve()
