"""`keyslice` for tests that call it often: each call is a process of its own, forked from this one.

What takes seconds to import has been imported here before. Keyslice itself and Prefect, which read
the environment when they are imported, are imported by each call.

A line of JSON on standard input is a call: arguments, folder, environment, and the files for what
it prints. The answer is a line with its exit code.
"""

import atexit
import gc
import importlib
import json
import os
import sys
import traceback

LIBRARIES = (
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


def main() -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # else each call's collector goes through all of it, and copies the pages
    for line in sys.stdin:
        child = os.fork()
        if not child:
            call(**json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def call(arguments: list[str], cwd: str, environment: dict[str, str], out: str, err: str) -> None:
    """Become `keyslice` with these arguments; its end is the end of the process."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate((os.devnull, out, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    sys.argv = ["keyslice", *arguments]
    from keyslice.cli import main

    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what was imported in advance takes seconds to be torn down


if __name__ == "__main__":
    main()
