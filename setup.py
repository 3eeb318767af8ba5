"""Package layout that setup.cfg cannot express: the configuration folders are installed inside the package."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["meanteacher*", "hydra_plugins*"]),
        "meanteacher.conf",
        "meanteacher.sweep_configs",
    ],
    package_dir={"meanteacher.conf": "conf", "meanteacher.sweep_configs": "sweeps"},
)
