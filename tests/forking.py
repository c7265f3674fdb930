"""`keyslice` and `dvc` for tests that call them often: each call is forked from a server.

The server has imported what takes seconds. Keyslice itself and Prefect, which read the environment
when they are imported, are imported by each call. It runs with the folder, the environment and the
standard streams of the one who calls; where KEYSLICE_TEST_DVC holds the socket of a server for
DVC, keyslice calls DVC there. A call that is killed leaves its process running.

    forking.py serve SOCKET keyslice|dvc    until it is ended; says when it is ready
    forking.py call SOCKET ARGUMENT…        `keyslice ARGUMENT…`, and its exit code
"""

import json
import os
import socket
import sys

LIBRARIES = {
    "dvc": (
        "dvc.cli.command",
        "dvc.data_cloud",
        "dvc.parsing",
        "dvc.repo.reproduce",
        "dvc.repo.status",
        "dvc.stage.run",
        "dvc_data.index.checkout",
        "dvc_data.index.push",
    ),
    "keyslice": (
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
    ),
}
DVC_SOCKET = "KEYSLICE_TEST_DVC"
STREAMS = (0, 1, 2)


def called(address: str) -> tuple[str, ...]:
    """The command that calls the program of the server there."""
    return (sys.executable, "-SE", __file__, "call", address)


def serve(address: str, program: str) -> None:
    import gc
    import importlib
    import signal

    for library in LIBRARIES[program]:
        importlib.import_module(library)
    if program == "dvc":
        from dvc.cli.parser import get_main_parser

        get_main_parser()  # imports all of its commands
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
                    answer(connection, program)


def answer(connection: socket.socket, program: str) -> None:
    """Be the program for the one who calls; its end is the end of the process."""
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
    sys.argv = [program, *asked["arguments"]]
    try:
        code = run(program)
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


def run(program: str) -> int:
    if program == "dvc":
        from dvc.cli import main as dvc_main

        return dvc_main(sys.argv[1:])
    if address := os.environ.get(DVC_SOCKET):
        from keyslice.versioning import processes

        processes.DVC = called(address)
    from keyslice.cli import main

    main()
    return 0


def call(address: str, *arguments: str) -> None:
    asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(asked).encode()], STREAMS)
        sys.exit(int(connection.recv(16) or 1))  # nothing: it was killed


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
