"""What `import pythonx` offers."""

import inspect
import pydoc
import subprocess
import sys
import unittest
from pathlib import Path

import fake_native  # first, as it makes the package importable
import pythonx


class PackageTest(unittest.TestCase):
    def test_names(self):
        names = [
            "PID",
            "Atom",
            "ElixirError",
            "Function",
            "Table",
            "self",
            "send",
            "send_tagged_object",
            "whereis",
        ]
        self.assertEqual(names, pythonx.__all__)
        self.assertIs(fake_native.PID, pythonx.PID)

    def test_sending_by_position_and_by_name(self):
        self.assertIsNone(pythonx.send_tagged_object(1, "tag", 2))
        self.assertIsNone(pythonx.send_tagged_object(object=2, tag="tag", pid=1))
        self.assertEqual([(1, "tag", 2)] * 2, fake_native.sent)

    def test_help(self):
        text = pydoc.plain(pydoc.render_doc(pythonx))
        self.assertIn("PID, tag: str, object: object) -> None", text)
        self.assertIn("The Elixir side", text)
        self.assertTrue(all(inspect.getdoc(getattr(pythonx, name)) for name in pythonx.__all__))
        self.assertTrue(Path(pythonx.__file__).with_name("py.typed").exists())

    def test_nothing_heavy_is_imported_at_start(self):
        code = (
            "import fake_native, sys; before = set(sys.modules); import pythonx._streams, pythonx._compile; "
        )
        code += "print(*sorted(set(sys.modules) - before))"
        folder = Path(__file__).parent
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
        )
        heavy = {"ast", "inspect", "linecache", "threading", "tokenize", "traceback", "typing"}
        self.assertEqual(set(), heavy & set(done.stdout.split()))


if __name__ == "__main__":
    unittest.main()
