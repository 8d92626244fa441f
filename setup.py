"""Packaging. The folders ``export``, ``engines`` and ``benchmarks`` install as ``emo_rt.export`` and so on."""

from setuptools import find_packages, setup

MAPPED = ("export", "engines", "benchmarks")


def packages() -> list[str]:
    """Every import name of the product, tests and training left out."""
    names = find_packages(include=["emo_rt", "emo_rt.*"])
    for folder in MAPPED:
        names += [f"emo_rt.{name}" for name in find_packages(include=[folder, f"{folder}.*"])]
    return names


# `emo_rt_command` lies beside the package, because whatever lies in it imports all of it first.
setup(packages=packages(), py_modules=["emo_rt_command"], package_dir={f"emo_rt.{folder}": folder for folder in MAPPED})
