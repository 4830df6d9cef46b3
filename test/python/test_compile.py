"""How the code of an evaluation is split, compiled and shown in tracebacks."""

import inspect
import linecache
import os
import sys
import tempfile
import traceback
import unittest
import warnings

import fake_native  # noqa: F401 - first, as it makes the package importable
from pythonx import _compile
from pythonx._compile import compile_source


def run(source, *args, **kwargs):
    """Run it as an evaluation does, and return (result or ..., globals)."""
    body, expression = compile_source(source, *args, **kwargs)
    names = {"__name__": "__main__", "__doc__": None}
    if body is not None:
        exec(body, names)
    result = ... if expression is None else eval(expression, names)
    names.pop("__builtins__", None)
    return result, names


def error_of(function, *args):
    try:
        function(*args)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


class SplitTest(unittest.TestCase):
    def test_nothing(self):
        for source in ("", "\n\n", "# comment", "  # indented comment\n"):
            self.assertEqual((None, None), compile_source(source), source)

    def test_last_expression(self):
        for source in ("1", "1;", "x = 1; x", "x = 1\n\nx\n# end\n", "(\n1\n)", "if True:\n  x = 2\n1"):
            self.assertEqual(1, run(source)[0], source)

    def test_last_statement(self):
        for source in (
            "x = 1",
            "if True:\n  1",
            "def f(): 1",
            "import os",
            "pass",
            "1\nx = 1",
            "for x in []: x",
        ):
            body, expression = compile_source(source)
            self.assertIsNotNone(body, source)
            self.assertIsNone(expression, source)

    def test_single_expression_has_no_body(self):
        body, expression = compile_source("1 + 1")
        self.assertIsNone(body)
        self.assertEqual(2, eval(expression))

    def test_none_is_a_result(self):
        self.assertIsNone(run("None")[0])

    def test_walrus_binds_and_is_the_result(self):
        result, names = run("(y := 5)")
        self.assertEqual((5, 5), (result, names["y"]))

    def test_docstrings(self):
        self.assertEqual(("doc", None), (run('"doc"')[0], run('"doc"')[1]["__doc__"]))
        self.assertEqual("doc", run('"doc"\nx = 1')[1]["__doc__"])
        result, names = run('"doc"\n2')
        self.assertEqual((2, "doc"), (result, names["__doc__"]))
        self.assertEqual(("b", "a"), (run('"a"\n"b"')[0], run('"a"\n"b"')[1]["__doc__"]))
        self.assertIsNone(run("x = 1\n'no doc'")[1]["__doc__"])

    def test_line_endings_and_tabs(self):
        self.assertEqual(3, run("if True:\r\n\tx = 3\r\nx\r\n")[0])

    def test_future_imports_hold_for_the_expression(self):
        code = "from __future__ import annotations\nexec('def f(a: undefined): pass')"
        self.assertIn("f", run(code)[1])

    def test_future_imports_of_this_module_do_not_leak(self):
        with self.assertRaises(NameError):
            run("def f(a: undefined): pass\nf.__annotations__")

    def test_top_level_await(self):
        self.assertIn("outside function", error_of(compile_source, "await x").msg)
        self.assertIn("outside async function", error_of(compile_source, "async with x: pass").msg)
        body, expression = compile_source("async with x: pass\nawait x", allow_top_level_await=True)
        self.assertTrue(body.co_flags & expression.co_flags & inspect.CO_COROUTINE)


class ErrorTest(unittest.TestCase):
    def assert_error(self, source, message, line, *args):
        error = error_of(compile_source, source, *args)
        self.assertIsInstance(error, SyntaxError)
        self.assertIn(message, error.msg)
        self.assertEqual(line, error.lineno)
        self.assertIsNotNone(error.__traceback__)
        return error

    def test_parse_error(self):
        error = self.assert_error("x = 1\ny = = 2", "invalid syntax", 2)
        self.assertEqual(("<string>", "y = = 2", 5), (error.filename, error.text.strip(), error.offset))

    def test_compile_error_has_no_text(self):
        error = self.assert_error("x = 1\nreturn", "'return' outside function", 2)
        self.assertIsNone(error.text)

    def test_no_dedent(self):
        self.assertIsInstance(error_of(compile_source, "  x = 1"), IndentationError)

    def test_bad_characters(self):
        self.assert_error("a\0b", "source code string cannot contain null bytes", None)
        self.assert_error("\ufeffx", "U+FEFF", 1)
        self.assertIsInstance(error_of(compile_source, "x = '\ud800'"), UnicodeEncodeError)

    def test_coding_comment_has_no_effect(self):
        self.assertEqual("é", run("# coding: latin-1\n'é'")[0])

    def test_nesting_too_deep(self):
        self.assertIsInstance(error_of(compile_source, "[" * 100_000), (SyntaxError, MemoryError))

    def test_warnings_are_shown_once(self):
        source = "x = '\\d'\ny = x is 1\nx is ()\n'\\e'"
        for file, first in (("<string>", 1), ("warned.ex", 7)):
            with warnings.catch_warnings(record=True) as shown:
                warnings.simplefilter("always")
                compile_source(source, file, first)
            places = sorted((warning.filename, warning.lineno) for warning in shown)
            self.assertEqual([(file, first + offset) for offset in range(4)], places)


class LocationTest(unittest.TestCase):
    def setUp(self):
        _compile._sources.clear()
        _compile._sizes.clear()
        linecache.clearcache()

    def trace(self, source, *args):
        error = error_of(run, source, *args)
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        return [(frame.filename, frame.lineno, frame.name, frame.line) for frame in frames]

    def test_code_without_a_file_keeps_no_source(self):
        self.assertEqual([("<string>", 2, "<module>", "")], self.trace("x = 1\n1/0"))
        self.assertEqual([("<string>", 1, "<module>", "")], self.trace("1/0; x = 1"))
        self.assertEqual({}, _compile._sources)

    def test_lines_of_statements_expression_and_functions(self):
        self.assertEqual([("a.ex", 11, "<module>", "1/0")], self.trace("x = 1\n1/0", "a.ex", 10))
        self.assertEqual([("a.ex", 10, "<module>", "1/0")], self.trace("1/0\nx = 1", "a.ex", 10))
        expected = [("a.ex", 12, "<module>", "f()"), ("a.ex", 11, "f", "return 1/0")]
        self.assertEqual(expected, self.trace("def f():\n  return 1/0\nf()", "a.ex", 10))

    @unittest.skipIf(sys.version_info < (3, 11), "columns are new in 3.11")
    def test_columns(self):
        body, _ = compile_source("x = 1; y = x/0; z = 2", "a.ex", 10)
        self.assertIn((10, 10, 11, 14), list(body.co_positions()))

    def test_snippets_of_one_file_merge(self):
        run("a = 1", "iex", 1)
        run("b = 1\nc = 2", "iex", 3)
        self.assertEqual(["a = 1\n", "\n", "b = 1\n", "c = 2\n"], linecache.getlines("iex"))
        run("d = 4", "iex", 4)
        self.assertEqual("d = 4\n", linecache.getline("iex", 4))
        self.assertEqual("", linecache.getline("iex", 9))

    def test_checking_the_cache_keeps_the_sources(self):
        run("a = 1", "iex", 1)
        linecache.checkcache()
        self.assertEqual("a = 1\n", linecache.getline("iex", 1))

    def test_source_of_a_function_can_be_had(self):
        names = run("def f(a):\n  return a", "a.ex", 20)[1]
        self.assertEqual("def f(a):\n  return a\n", inspect.getsource(names["f"]))

    def test_errors_show_the_code_rather_than_the_file_on_disk(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.ex")
            with open(path, "w") as file:
                file.write('# one\n    ~PY"""\n      x = 1\n      y = = 2\n    """\n')
            for source, line in (("x = 1\ny = = 2", 4), ("x = 1\nreturn 2", 4), ("return 2", 3)):
                error = error_of(compile_source, source, path, 3)
                text = source.split("\n")[-1] + "\n"
                self.assertEqual((path, line, text), (error.filename, error.lineno, error.text))

    def test_an_error_that_names_another_line_does_so_rightly(self):
        self.assertIn("on line 11", error_of(compile_source, "x = 1\nif x:\npass", "a.ex", 10).msg)

    def test_impossible_lines(self):
        for line in (0, -5, 10**9, 2**62):
            self.assertEqual([("<string>", 1, "<module>", "")], self.trace("1/0", "a.ex", line))
        self.assertEqual(200_000, self.trace("1/0", "a.ex", 200_000)[0][1])

    def test_kept_sources_are_bounded(self):
        for number in range(200):
            run("x = 1", f"{number}.ex", 1)
        self.assertEqual(_compile._MAX_FILES, len(_compile._sources))
        self.assertEqual("", linecache.getline("0.ex", 1))
        self.assertEqual("x = 1\n", linecache.getline("199.ex", 1))

    def test_a_kept_file_is_bounded(self):
        half = "#" * (_compile._MAX_FILE_SIZE // 2)
        for line in (1, 2, 3):
            run(half, "iex", line)
        self.assertEqual(["\n", "\n", half + "\n"], linecache.getlines("iex"))
        run(half * 3 + "\nx = 1", "iex", 9)
        self.assertEqual([], linecache.getlines("iex"))
        self.assertEqual({}, _compile._sources)


if __name__ == "__main__":
    unittest.main()
