"""Which variables of an environment are kept with a result: by name, from a list. What is not on it may be a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping

# threads and their places, devices, communication, where programs and libraries come from, language and time zone, the allocation; an
# extended regular expression that means the same to grep and to Python
PATTERN = (
    r"(OMP|GOMP|KMP|MKL|OPENBLAS|NUMBA|[A-Z]CCL|UCX|OMPI_MCA|LC)_\w*|\w+_VISIBLE_DEVICES|LOADEDMODULES|VIRTUAL_ENV|CONDA_(DEFAULT_ENV|PREFIX)"
    r"|PYTHONPATH|LD_(LIBRARY_PATH|PRELOAD)|PATH|LANG|TZ|SLURM_(CLUSTER_NAME|JOB_GPUS|CPUS_ON_NODE|MEM_PER_NODE)|WESTWARD_(RESTARTS|PREVIOUS)"
)
_KEPT = re.compile(PATTERN, re.ASCII)
# whatever the list says: names that speak of a secret
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|KEY|JWT|AUTH", re.IGNORECASE)


def kept(environment: Mapping[str, str]) -> dict[str, str]:
    """Those that are kept, by name."""
    return {
        name: value for name, value in sorted(environment.items()) if _KEPT.fullmatch(name) and not _SECRET.search(name)
    }
