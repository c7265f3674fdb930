"""`keyslice` for tests that call it often: each call is a process forked from one server's.

The server has imported what takes seconds. Keyslice itself and Prefect, which read the environment
when they are imported, are imported by each call. It runs with the folder, the environment and the
standard streams of the one who calls.

    forking.py serve SOCKET             until it is ended; says when it is ready
    forking.py call SOCKET ARGUMENT…    `keyslice ARGUMENT…`, and its exit code
"""

import json
import os
import socket
import sys

LIBRARIES = (
    "lightning",
    "matplotlib.figure",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "nibabel",
    "pandera.pandas",
    "pydicom",
    "sklearn.metrics",
    "timm",
)
STREAMS = (0, 1, 2)


def serve(address: str) -> None:
    import gc
    import importlib
    import signal

    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # else each call's collector goes through all of it, and copies the pages
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)  # noqa: T201
        while True:
            connection, _ = listening.accept()
            with connection:
                if not os.fork():
                    listening.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    answer(connection)


def answer(connection: socket.socket) -> None:
    """Be `keyslice` for the one who calls; its end is the end of the process."""
    import atexit
    import traceback

    message, streams, _, _ = socket.recv_fds(connection, 1 << 20, len(STREAMS))
    asked = json.loads(message)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for stream, own in zip(streams, STREAMS, strict=True):
        os.dup2(stream, own)
        os.close(stream)
    sys.argv = ["keyslice", *asked["arguments"]]
    from keyslice.cli import main

    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(str(code).encode())
    os._exit(0)  # what was imported in advance takes seconds to be torn down


def call(address: str, *arguments: str) -> None:
    asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(asked).encode()], STREAMS)
        sys.exit(int(connection.recv(16) or 1))  # nothing: it was killed


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
