"""Somebody's Hydra application. It knows nothing of Westward, nor of Slurm."""

import logging
import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

log = logging.getLogger(__name__)


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg: DictConfig) -> object:
    job = HydraConfig.get().job
    log.info("%s: lr %s, %s layers, %r", job.num, cfg.lr, cfg.model.layers, cfg.note)
    output = HydraConfig.get().runtime.output_dir
    os.makedirs(os.path.join(output, "weights"), exist_ok=True)
    with open(os.path.join(output, "weights", "last.txt"), "w") as file:
        file.write(f"{cfg.lr} {os.environ.get('SLURM_JOB_NUM_NODES')}")
    if cfg.big_file_bytes:
        with open(os.path.join(output, "big.bin"), "wb") as file:
            file.truncate(cfg.big_file_bytes)
    if cfg.ends == "badly":
        raise ValueError(f"lr {cfg.lr} leads nowhere")
    if cfg.ends == "at once":
        sys.exit(7)
    return log if cfg.ends == "with a logger" else cfg.lr * cfg.model.layers


if __name__ == "__main__":
    main()
