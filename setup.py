"""Only what setup.cfg cannot say: on PyPI, the README's links lead to the repository."""

import re
from pathlib import Path

from setuptools import setup
from setuptools.config.setupcfg import read_configuration

URL = read_configuration("setup.cfg")["metadata"]["url"]
README = Path("README.md").read_text(encoding="utf-8")
README = re.sub(r"(!\[[^]]*\]\()(?=docs/)", rf"\1{URL}/raw/main/", README)
README = re.sub(r"(\]\()(?!https?:)", rf"\1{URL}/blob/main/", README)

setup(long_description=README)
