"""Configurations as Hydra composes them, with the options that were chosen."""

from hydra import compose
from omegaconf import DictConfig


def composed(*overrides: str) -> DictConfig:
    """The configuration of some overrides; Hydra is begun by the caller."""
    return compose("config", list(overrides), return_hydra_config=True)
