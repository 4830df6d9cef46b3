"""What is read from the source of a module: see priv/python/pythonx/_signatures.py."""

import ast
import textwrap
import unittest

import fake_native  # noqa: F401 - first, as it makes the package importable
from pythonx import _describe, _hints, _signatures


def describe(source, strict_name="own"):
    return _signatures.describe_text(textwrap.dedent(source), "own.py", strict_name)


class HintsTest(unittest.TestCase):
    def read(self, text):
        return _hints.Hints({"Box"}, {"Vector": ast.parse("list[float]", mode="eval").body}).parse(text)

    def test_hints(self):
        for text, expected in {
            "int": ["int"],
            "typing.Optional[int]": ["union", [["int"], ["none"]]],
            "int | None | int": ["union", [["int"], ["none"]]],
            "Union[int, Any]": ["any"],
            "'list[Box]'": ["list", ["class", "Box"]],
            "Vector": ["list", ["float"]],
            "dict[str, tuple[int, ...]]": ["dict", ["str"], ["tuple_of", ["int"]]],
            "tuple[int, str]": ["tuple", [["int"], ["str"]]],
            "Literal['a', 1, None]": ["literal", ["a", 1, None]],
            "Literal[Color.RED]": ["any"],
            "Annotated[int, 'positive']": ["int"],
            "collections.abc.AsyncIterator[str]": ["iterator", ["str"]],
            "Coroutine[Any, Any, int]": ["awaitable", ["int"]],
            "np.ndarray": ["array"],
            "npt.NDArray[np.float64]": ["array"],
            "Callable[[int], str]": ["callable"],
            "collections.Counter[str]": ["dict", ["str"], ["int"]],
            "T": ["any"],
            "int[": ["any"],
            "'int['": ["any"],
        }.items():
            with self.subTest(text):
                self.assertEqual(self.read(text), expected)

    def test_aliases_in_a_circle(self):
        a, b = (ast.parse(name, mode="eval").body for name in ("B", "A"))
        self.assertEqual(_hints.Hints(set(), {"A": a, "B": b}).parse("A"), ["any"])


class SignaturesTest(unittest.TestCase):
    def test_public_names(self):
        described = describe(
            """
            __all__ = ["f", "_g", "Missing"]
            __all__ += ["alias"]
            def f(): pass
            def _g(): pass
            def h(): pass
            alias = f
            """
        )
        self.assertEqual([function["name"] for function in described["functions"]], ["f", "_g", "alias"])
        self.assertEqual([name for name, _why in described["skipped"]], ["Missing"])

    def test_definitions_that_depend_on_something(self):
        described = describe(
            """
            import sys
            from typing import overload
            from contextlib import contextmanager
            if sys.version_info > (3,):
                def f(a): pass
            else:
                def f(): pass
            try:
                import fast
            except ImportError:
                def slow(): pass
            @overload
            def many(a: int) -> int: ...
            @overload
            def many(a: str) -> str: ...
            def many(a): return a
            @contextmanager
            def managed(): yield 1
            def outer():
                def inner(): yield 1
                return inner
            """
        )
        found = {function["name"]: function for function in described["functions"]}
        self.assertEqual(list(found), ["f", "slow", "many", "managed", "outer"])
        self.assertEqual(found["many"]["returns"], ["any"])
        self.assertEqual({function["kind"] for function in found.values()}, {"function"})

    def test_classes_that_are_their_own_bases(self):
        described = describe("class A(A): pass\nclass B(C): pass\nclass C(B): pass\nclass D(): pass")
        self.assertEqual([cls["init"] for cls in described["classes"]], [None, None, None, []])

    def test_deep_sources(self):
        deep = describe("x = " + "(" * 500 + ")" * 500)
        self.assertIn("Error", deep["error"])

    def test_modules_are_found_without_running_them(self):
        self.assertNotIn("error", _signatures.describe_module("this"))
        self.assertIn("there is no module", _signatures.describe_module("not_there.at_all")["error"])


class TermsTest(unittest.TestCase):
    def test_terms(self):
        for value, expected in (
            (None, b"w\x03nil"),
            (True, b"w\x04true"),
            (-1, b"b\xff\xff\xff\xff"),
            (2**40, b"n\x06\x00\x00\x00\x00\x00\x00\x01"),
            ([], b"j"),
            ("ä", b"m\x00\x00\x00\x02\xc3\xa4"),
            (
                {"a": [1.5]},
                b"t\x00\x00\x00\x01m\x00\x00\x00\x01al\x00\x00\x00\x01F?\xf8\x00\x00\x00\x00\x00\x00j",
            ),
        ):
            self.assertEqual(_describe.encode(value), expected)


if __name__ == "__main__":
    unittest.main()
