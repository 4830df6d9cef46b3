"""What interpreters other than the main one do about modules that refuse them."""

import sys
import tempfile
import unittest
from pathlib import Path

import fake_native
from pythonx import _errors, _interpreter


class ModulesTest(unittest.TestCase):
    def test_what_may_be_tried_is_known_wherever_the_name_stands_in_the_file(self):
        name = b"PyModuleDef_Init"
        block = 1 << 20
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "module.so"
            for before in (0, block - len(name), block - 5, block, 2 * block - 1):
                path.write_bytes(b"x" * before + name + b"\0y")
                self.assertTrue(_interpreter._can_be_tried(str(path)), before)
            for content in (b"", b"PyModule_Create2", b"x" * (block - 5) + name[:-1] + b"y" * block):
                path.write_bytes(content)
                self.assertFalse(_interpreter._can_be_tried(str(path)))
            self.assertTrue(_interpreter._can_be_tried(str(Path(folder) / "missing.so")))

    def test_names_of_the_package_say_why_they_are_missing(self):
        for name in _interpreter._PUBLIC:
            with self.assertRaisesRegex(ImportError, f"pythonx.{name} is not available in the interpreter"):
                _interpreter._missing(name)
        with self.assertRaisesRegex(AttributeError, "module 'pythonx' has no attribute 'x'"):
            _interpreter._missing("x")

    def test_it_knows_all_names_of_the_package(self):
        import pythonx

        self.assertIs(_errors.ElixirError, pythonx.ElixirError)
        self.assertEqual(sorted(pythonx.__all__), sorted(_interpreter._PUBLIC))
        self.assertIs(fake_native.PID, pythonx.PID)


@unittest.skipIf(sys.version_info < (3, 11), "exceptions have no notes")
class ErrorsTest(unittest.TestCase):
    def lines(self, code):
        try:
            exec(code, {"refusal": _interpreter._refusal("numpy.core", "/numpy.so")})
        except BaseException as error:
            return "".join(_interpreter.format_error(type(error), error, None))
        raise AssertionError

    def test_an_error_that_comes_of_a_refusal_says_so_at_its_end(self):
        refusal = str(_interpreter._refusal("numpy.core", "/numpy.so"))
        self.assertTrue(self.lines("raise refusal").endswith(refusal + "\n"))
        for how in ("raise ValueError(1) from error", "raise ValueError(1)", "raise ValueError(1) from None"):
            lines = self.lines(f"try:\n  raise refusal\nexcept ImportError as error:\n  {how}")
            self.assertTrue(lines.endswith(f"ValueError: 1\n{refusal}\n"), lines)

    def test_other_errors_are_as_they_were(self):
        self.assertEqual("ValueError: 1\n", self.lines("raise ValueError(1)"))


if __name__ == "__main__":
    unittest.main()
