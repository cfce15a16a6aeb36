"""Thin on purpose: the metadata is in pyproject.toml; here is the one compiled extension."""

import hashlib
from pathlib import Path

from setuptools import Extension, setup

KERNEL = sorted(Path("data_prep/dedup/kernel").glob("*.[ch]*"))

setup(
    ext_modules=[
        Extension(
            "data_prep.dedup._kernel",
            ["data_prep/dedup/kernel/module.cpp"],
            depends=[*map(str, KERNEL), "setup.py"],
            language="c++",
            # data_prep/dedup/compiled.py refuses a kernel that was built from other sources than those beside it.
            define_macros=[
                ("SOURCES", '"' + hashlib.sha256(b"".join(p.read_bytes() for p in KERNEL)).hexdigest() + '"')
            ],
            # One build runs on every x86-64: faster versions for newer ones are chosen when it is loaded.
            extra_compile_args=["-std=c++17", "-O3", "-fvisibility=hidden"],
            extra_link_args=["-pthread"],
            optional=True,  # without a compiler everything else still installs; data_prep/dedup/compiled.py says so
        )
    ]
)
