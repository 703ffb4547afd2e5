"""Only what setup.cfg cannot say: links of the README, and files that stand beside the package."""

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.config.setupcfg import read_configuration

URL = read_configuration("setup.cfg")["metadata"]["url"]
README = Path("README.md").read_text(encoding="utf-8")  # on PyPI, its links lead to the repository
README = re.sub(r"(!\[[^]]*\]\()(?=docs/)", rf"\1{URL}/raw/main/", README)
README = re.sub(r"(\]\()(?!https?:)", rf"\1{URL}/blob/main/", README)


class BuildPackage(build_py):
    """Copies the files beside the package into todo_wsgi/data/, where a wheel has them."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if not self.editable_mode:
            data = f"{self.build_lib}/todo_wsgi/data"
            for folder in ("static", "templates"):
                self.copy_tree(folder, f"{data}/{folder}")
            for file in ("init_db.sql", "serve.py"):
                self.copy_file(file, data)


setup(long_description=README, cmdclass={"build_py": BuildPackage})
