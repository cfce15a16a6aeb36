"""Thin on purpose: the metadata is in pyproject.toml; compiled extensions will be declared here."""

from setuptools import setup

setup()
