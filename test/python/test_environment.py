"""What is installed, and how another environment is put beside it."""

import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import fake_native  # noqa: F401  first, as it makes the package importable
from pythonx import _environment, _package


def install(folder, name, version):
    package = Path(folder, name)
    package.mkdir()
    (package / "__init__.py").write_text(f"version = {version!r}\n")
    record = Path(folder, f"{name}-{version}.dist-info")
    record.mkdir()
    (record / "RECORD").write_text(f"{name}/__init__.py,,\n")


class EnvironmentTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.own = Path(folder.name, "own", "site-packages")
        self.other = Path(folder.name, "other", "site-packages")
        for each in (self.own, self.other):
            each.mkdir(parents=True)
        before = list(sys.path)
        self.addCleanup(lambda: sys.path.__setitem__(slice(None), before))
        patch = mock.patch.object(_package, "remember_path")
        patch.start()
        self.addCleanup(patch.stop)
        sys.path[:] = [*[path for path in before if "site-packages" not in path], str(self.own)]

    def versions(self):
        return {each["name"]: each["version"] for each in _environment.describe()["packages"]}

    def test_a_package_counts_once_where_imports_find_it_first(self):
        install(self.own, "environment_a", "1.0")
        install(self.other, "environment_a", "2.0")
        install(self.other, "environment_b", "1.0")
        self.assertEqual({"environment-a": "1.0"}, self.versions())
        _environment.add(str(self.other), False)
        self.assertEqual({"environment-a": "1.0", "environment-b": "1.0"}, self.versions())
        _environment.add(str(self.other), False)
        self.assertEqual(1, sys.path.count(str(self.other)))

    def test_packages_of_another_environment_may_come_first(self):
        install(self.own, "environment_a", "1.0")
        install(self.other, "environment_a", "2.0")
        _environment.add(str(self.other), True)
        self.assertEqual({"environment-a": "2.0"}, self.versions())
        self.assertLess(sys.path.index(str(self.other)), sys.path.index(str(self.own)))

    def test_what_is_imported_is_known_by_its_files(self):
        install(self.own, "environment_c", "1.0")
        install(self.own, "environment_d", "1.0")
        import environment_c

        self.addCleanup(sys.modules.pop, "environment_c")
        self.assertEqual("1.0", environment_c.version)
        self.assertEqual(["environment-c"], _environment.imported())

    def test_variables_are_set_and_removed(self):
        with mock.patch.dict(os.environ, {"ENVIRONMENT_A": "1"}):
            _environment.update_environ({"ENVIRONMENT_A": None, "ENVIRONMENT_B": "2", "ENVIRONMENT_C": None})
            self.assertNotIn("ENVIRONMENT_A", os.environ)
            self.assertEqual("2", os.environ["ENVIRONMENT_B"])


if __name__ == "__main__":
    unittest.main()
