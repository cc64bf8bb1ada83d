"""Runs one point of a sweep inside its job: somebody's Hydra application, as its user would run it by hand, with the point's overrides.

    python3 point.py '{"script": "/home/u17/app/train.py", ...}' OVERRIDE...

It needs the application, Hydra, and nothing of Westward. The directory that it is started in is the point's output directory. What the
application's function returned is written there as JSON, with the names of the files that the application left.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from typing import Any

RECORD = ".westward/point.json"
MOST_FILES = 10_000
OUTPUT = os.getcwd()

try:
    from hydra.experimental.callback import Callback
except ImportError as missing:
    sys.exit(
        f"westward: {sys.executable} cannot import Hydra here ({missing}); name an interpreter of this site that can "
        "(hydra.launcher.python=), or activate an environment (hydra.launcher.setup=)"
    )


class Record(Callback):
    """Told by Hydra when the application's function has ended."""

    def on_job_end(self, config: Any, job_return: Any, **_: Any) -> None:
        told: dict[str, Any] = dict.fromkeys(("return_value", "not_json", "error", "traceback"))
        value = job_return._return_value
        if job_return.status.name == "COMPLETED":
            try:
                json.dumps(value, default=plain)
                told["return_value"] = value
            except (TypeError, ValueError, RecursionError):
                told["not_json"] = type(value).__name__
        else:
            told["error"] = f"{type(value).__name__}: {value}"
            frames = value.__traceback__ and value.__traceback__.tb_next  # the first one is Hydra's
            told["traceback"] = "".join(traceback.format_exception(type(value), value, frames))
        written = files()
        told["files"], told["more_files"] = written[:MOST_FILES], max(0, len(written) - MOST_FILES)
        draft = os.path.join(OUTPUT, f"{RECORD}.{os.getpid()}")
        with open(draft, "w") as out:
            json.dump(told, out, default=plain)
        os.replace(draft, os.path.join(OUTPUT, RECORD))


def plain(value: Any) -> Any:
    """A config of OmegaConf, or a number of NumPy's or of a tensor library's, as JSON has it."""
    from omegaconf import OmegaConf

    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(type(value).__name__)


def files() -> list[tuple[str, int]]:
    """[name, bytes] of what lies in the output directory."""
    found = []
    for folder, _, names in os.walk(OUTPUT):
        for name in names:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, OUTPUT)
            if os.path.isfile(path) and not os.path.islink(path) and not relative.startswith(".westward" + os.sep):
                found.append((relative, os.path.getsize(path)))
    return sorted(found)


def quoted(text: str) -> str:
    """A text in Hydra's grammar."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return str(QuotedString(text=text, quote=Quote.single).with_quotes())


def main() -> None:
    """Run the application, with what Hydra says of it written down."""
    from hydra.core.config_store import ConfigStore

    told, overrides = json.loads(sys.argv[1]), sys.argv[2:]
    try:
        os.chdir(told["directory"])
    except OSError as error:
        sys.exit(
            f"westward: the directory '{told['directory']}' cannot be entered at this site ({error.strerror}); "
            "hydra.launcher.directory= names where the application's directory lies there"
        )
    # the plugins that chose and launched this point need not be here; what the application's config says of them is taken as it is
    store = ConfigStore.instance()
    store.store(group="hydra/launcher", name="westward", node=told["launcher"], provider="westward")
    if told["sweeper"] != "basic":
        store.store(group="hydra/sweeper", name=told["sweeper"], node=told["sweeper_config"], provider="westward")
    number = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        number = os.environ["SLURM_ARRAY_JOB_ID"] + "_" + os.environ["SLURM_ARRAY_TASK_ID"]
    own = [f"hydra.run.dir={quoted(OUTPUT)}", f"hydra.job.id={quoted(number)}"]
    if os.environ.get("SLURM_PROCID", "0") == "0":  # of several processes the first one's value is the point's
        sys.modules["westward_point"] = sys.modules["__main__"]
        own.append("+hydra.callbacks.westward_point._target_=westward_point.Record")
    sys.argv = [told["script"] or told["module"], *told["flags"], *overrides, *own]
    if told["module"]:
        sys.path[0] = told["directory"]
        runpy.run_module(told["module"], run_name="__main__", alter_sys=True)
        return
    if not os.path.isfile(told["script"]):
        sys.exit(
            f"westward: the application '{told['script']}' is not at this site; hydra.launcher.directory= names where the directory "
            "that you start it from lies there"
        )
    sys.path[0] = os.path.dirname(os.path.abspath(told["script"]))
    runpy.run_path(told["script"], run_name="__main__")


if __name__ == "__main__":
    main()
