"""Thin on purpose: the metadata is in pyproject.toml; here is the one compiled extension."""

from pathlib import Path

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "data_prep.dedup._kernel",
            ["data_prep/dedup/kernel/module.cpp"],
            depends=[str(header) for header in Path("data_prep/dedup/kernel").glob("*.h")],
            language="c++",
            # One build runs on every x86-64: faster versions for newer ones are chosen when it is loaded.
            extra_compile_args=["-std=c++17", "-O3", "-fvisibility=hidden"],
            extra_link_args=["-pthread"],
            optional=True,  # without a compiler everything else still installs; data_prep/dedup/kernel.py says so
        )
    ]
)
