"""What a piece of code reads from its global scope, and what it leaves there."""

import sys
import threading
import traceback
import unittest
import warnings

import fake_native  # noqa: F401 - first, as it makes the package importable
from pythonx._globals import scan_globals


def names(text):
    return set(text.split())


class ScanCase(unittest.TestCase):
    def assert_scan(self, code, referenced="", defined="", kept=None):
        # Read anywhere, and bound or unbound: what the sigil passes in and out.
        found = [set(group) for group in scan_globals(code.encode())]
        self.assertEqual(
            (names(referenced), names(defined)), (found[0] | found[3], found[1] | found[4]), code
        )
        if kept is not None:
            self.assertEqual(names(kept), found[2], code)


class AssignmentTest(ScanCase):
    def test_examples_of_the_documentation(self):
        self.assert_scan("p, q = r", "r", "p q", "")
        self.assert_scan("def g(a, b=k): return a + h", "h k", "g", "")
        self.assert_scan("[(t := u) for u in us]", "us", "t", "t")

    def test_empty(self):
        self.assertEqual(([], [], [], [], []), scan_globals(b""))
        self.assert_scan("# nothing\n")

    def test_value_before_targets(self):
        self.assert_scan("x = x", "x", "x", "")
        self.assert_scan("a = b = a", "a", "a b")
        self.assert_scan("a, *b = (c, d) = v", "v", "a b c d")
        self.assert_scan("[a, (b, c)] = v", "v", "a b c")

    def test_targets_from_left_to_right(self):
        self.assert_scan("i, l[i] = v", "l v", "i")
        self.assert_scan("l[i], i = v", "i l v", "i")

    def test_attribute_and_subscript_targets_are_loads(self):
        self.assert_scan("a.b = 1", "a")
        self.assert_scan("a[i] = 1", "a i")
        self.assert_scan("a.b[c.d].e += f", "a c f")

    def test_augmented(self):
        self.assert_scan("x += v", "v x", "x", "")
        self.assert_scan("x = 1\nx += 1", "", "x")
        self.assert_scan("a[i] += (a := i)", "i", "a")
        self.assert_scan("def f(): x += 1", "x", "f")

    def test_annotated(self):
        self.assert_scan("x: int = v", "v", "x", "")
        self.assert_scan("x: int = x", "x", "x")
        self.assert_scan("x: int", "", "x", "x")
        self.assert_scan("a.b: int = v", "a v")

    def test_annotations_that_python_evaluates_are_references(self):
        self.assert_scan("x: List[T] = []", "List T", "x")
        self.assert_scan("class A:\n  x: T", "T", "A")
        self.assert_scan("def f():\n  x: T = 1", "", "f")

    def test_names_that_only_annotations_read_are_apart(self):
        self.assertEqual(
            (["v"], ["f", "x"], [], ["A", "T"], []), scan_globals(b"x: T = v\ndef f(a: A, b: v): pass")
        )

    def test_names_that_are_only_deleted_are_apart(self):
        self.assertEqual((["x"], [], [], [], ["x"]), scan_globals(b"del x"))

    def test_walrus(self):
        self.assert_scan("(n := n)", "n", "n", "")
        self.assert_scan("x = (n := 1)", "", "n x", "n")
        self.assert_scan("lambda: (n := 1)")
        self.assert_scan("[[(n := y) for y in x] for x in v]", "v", "n")
        self.assert_scan("def f(v): return [(n := x) for x in v]", "", "f")

    def test_del_reads_a_name_and_takes_it_away(self):
        self.assert_scan("del x", "x", "x", "")
        self.assert_scan("x = 1\ndel x", "", "x", "")
        self.assert_scan("if c:\n  x = 1\n  del x", "c", "x", "")
        self.assert_scan("del a.b, c[d]", "a c d")
        self.assert_scan("def f(x): del x", "", "f")
        self.assert_scan("def f():\n  global x\n  del x", "x", "f x", "")


class LoadTest(ScanCase):
    def test_builtins(self):
        self.assert_scan("print(len(x), ValueError, __name__, __doc__, __builtins__)", "__builtins__ x")
        self.assert_scan("__file__", "__file__")
        self.assert_scan("__class__; __dict__", "__class__ __dict__")

    def test_used_before_and_assigned_after(self):
        self.assert_scan("print(x)\nx = 1", "x", "x")
        self.assert_scan("x = 1\nprint(x)", "", "x")
        self.assert_scan("def f(): return x\nx = 1", "x", "f x")

    def test_generic_nodes(self):
        self.assert_scan("f(a, *b, c=d, **e)[g:h:i].j", "a b d e f g h i")
        self.assert_scan("a if b else c or not d and -e < f != g", "a b c d e f g")
        self.assert_scan("{a: b, **c, **{d}}; [*e]; (g,)", "a b c d e g")
        self.assert_scan("f'{a:{b}} {c!r} {d=}'", "a b c d")
        self.assert_scan("assert a, b\nraise c from d", "a b c d")
        self.assert_scan("async def f():\n  await a\n  yield b\n  async with c as d: pass", "a b c", "f")

    def test_non_ascii_names_are_normalised(self):
        self.assert_scan("ﬁ = żółw", "żółw", "fi")


class ImportTest(ScanCase):
    def test_import(self):
        self.assert_scan("import a.b, c.d as e", "", "a e", "")
        self.assert_scan("from m import d as e, f", "", "e f", "")
        self.assert_scan("from . import g", "", "g")

    def test_star_import(self):
        self.assert_scan("from m import *", "", "*", "")


class FunctionTest(ScanCase):
    def test_name_and_body(self):
        self.assert_scan("def f(): return f(g)", "g", "f", "")
        self.assert_scan("async def f(): return f(g)", "g", "f", "")
        self.assert_scan("def f():\n  x = 1\n  def g(): return x\n  return y", "y", "f")
        self.assert_scan("def f():\n  def g(): pass\ng()", "g", "f")

    def test_parameters(self):
        self.assert_scan("def f(a, /, b, *c, d, **e): return a, b, c, d, e", "", "f")
        self.assert_scan("lambda a, /, b, *c, d, **e: (a, b, c, d, e)")

    def test_defaults_before_parameters(self):
        self.assert_scan("def f(p=p, *, q=q): return p, q", "p q", "f")
        self.assert_scan("lambda p=p, *, q=q: (p, q)", "p q")
        self.assert_scan("def f(*, a, b=c): pass", "c", "f")

    def test_decorators_and_defaults_see_what_was_there_before(self):
        self.assert_scan("@f(x)\ndef f(): x = 1", "f x", "f")
        self.assert_scan("def f(a=f): pass", "f", "f")

    def test_annotations(self):
        self.assert_scan("def f(a: A, *b: B, c: C = 1, **d: D) -> E: a = A = B", "A B C D E", "f")
        self.assert_scan("def f(a) -> a: pass", "a", "f")

    def test_global(self):
        self.assert_scan("def f():\n  global g\n  g = 1", "", "f g", "g")
        self.assert_scan("def f():\n  global g\n  g += 1", "g", "f g", "")
        self.assert_scan("def f():\n  global g\n  import g\ng", "", "f g")
        self.assert_scan("def f(v):\n  global g\n  [(g := x) for x in v]", "", "f g")
        self.assert_scan("def f():\n  g = 1\n  def h():\n    global g\n    return g", "g", "f")
        self.assert_scan("class A:\n  global g\n  g = 1", "", "A g")
        self.assert_scan("global g\ng = 1", "", "g", "")

    def test_nonlocal(self):
        self.assert_scan("def f():\n  x = 0\n  def g():\n    nonlocal x\n    x = 1", "", "f")


class ClassTest(ScanCase):
    def test_name_bases_and_body(self):
        self.assert_scan("class A(B, metaclass=C):\n  x = y", "B C y", "A", "")
        self.assert_scan("@d\nclass A: pass", "d", "A")
        self.assert_scan("class A:\n  def m(self) -> A: return A", "", "A")
        self.assert_scan("class A(A): pass", "A", "A")

    def test_body_sees_its_names(self):
        self.assert_scan("class A:\n  x = 1\n  y = x\n  def m(self, a=x): pass\n  z = m", "", "A")
        self.assert_scan("class A:\n  x = [1]\n  y = [i for i in x]", "", "A")

    def test_methods_do_not_see_the_names_of_the_class(self):
        self.assert_scan("class A:\n  x = 1\n  def m(self): return x", "x", "A")
        self.assert_scan("class A:\n  x = 1\n  y = [x for _ in 'ab']", "x", "A")
        self.assert_scan("class A:\n  x = 1\n  class B:\n    y = x", "x", "A")

    def test_attributes_do_not_leak(self):
        self.assert_scan("class A:\n  x = 1\nx", "x", "A")


class ComprehensionTest(ScanCase):
    def test_targets_stay_inside(self):
        for code in ("[x for x in v]", "{x for x in v}", "(x for x in v)", "{x: x for x in v}"):
            self.assert_scan(code + "\nx", "v x")

    def test_iterable_before_target(self):
        self.assert_scan("[x for x in x]", "x")
        self.assert_scan("[y for x in v for y in x if y if z]", "v z")
        self.assert_scan("[y for y in x for x in v]", "v x")

    def test_element_last(self):
        self.assert_scan("{k: w for k, w in v}", "v")


class FlowTest(ScanCase):
    def test_for(self):
        self.assert_scan("for x in v: y = x\nelse: z = x", "v", "x y z", "x y z")
        self.assert_scan("for x in x: pass", "x", "x", "")
        self.assert_scan("for a[i] in v: pass", "a i v")
        self.assert_scan("async def f():\n  async for x in x: pass", "x", "f")

    def test_while_and_if(self):
        self.assert_scan("while a: b = 1\nelse: c = b", "a", "b c", "b c")
        self.assert_scan("if a: b = 1\nelif c: d = b\nelse: e = d", "a c", "b d e", "b d e")

    def test_with(self):
        self.assert_scan("with a as b, b.c as (d, e): f = d", "a", "b d e f")

    def test_try(self):
        code = "try: a = 1\nexcept E: b = a\nelse: c = b\nfinally: d = c"
        self.assert_scan(code, "E", "a b c d", "a b c d")

    def test_handler_name(self):
        self.assert_scan("try: pass\nexcept E as e: print(e); x = e\ne", "E e", "x")
        nested = "try: pass\nexcept A as a:\n  try: pass\n  except B as b: print(a, b)\n  b"
        self.assert_scan(nested, "A B b")
        self.assert_scan("try: pass\nexcept e as e: del e", "e")
        self.assert_scan("try: pass\nexcept E as e:\n  def f(): return e", "E", "f")

    @unittest.skipIf(sys.version_info < (3, 11), "except* is new in 3.11")
    def test_handler_of_groups(self):
        self.assert_scan("try: a = 1\nexcept* E as e: b = e", "E", "a b")

    def test_kept_names_are_those_that_a_run_can_leave_untouched(self):
        self.assert_scan("x = 1\nif c: x = 2\nelse: y = 3", "c", "x y", "y")
        self.assert_scan("if x: x = 1", "x", "x", "")
        self.assert_scan(
            "import a\ndef b(): c = 1\nclass d: e = 1\nf = g = h, i = 1, 2", "", "a b d f g h i", ""
        )


class MatchTest(ScanCase):
    def test_patterns(self):
        self.assert_scan("match v:\n  case [a, *b, _] as c if d(a): e = a", "d v", "a b c e")
        self.assert_scan("match v:\n  case {K.a: x, **rest}: pass", "K v", "rest x")
        self.assert_scan(
            "match v:\n  case C(a, b=D.e) | C(a, b=F()): pass\n  case g: h = g", "C D F v", "a g h"
        )
        self.assert_scan("match v:\n  case [*_] | _: pass", "v")

    def test_guard_after_pattern(self):
        self.assert_scan("match v:\n  case x if x: pass", "v", "x", "x")


@unittest.skipIf(sys.version_info < (3, 12), "type parameters are new in 3.12")
class TypeParameterTest(ScanCase):
    def test_alias(self):
        self.assert_scan("type X = list[Y]", "Y", "X")
        self.assert_scan("type X[T: B, *Ts, **P] = dict[T, X] | Y", "B Y", "X")
        self.assert_scan("type X[T] = T\nT", "T", "X")

    def test_function(self):
        self.assert_scan("def f[T](a: T = d) -> T: return T, T2", "T2 d", "f", "")
        self.assert_scan("@T\ndef f[T](a=T): pass", "T", "f")

    def test_class(self):
        self.assert_scan("class A[T](B[T]):\n  x: T\n  def m[U](self, a: U) -> T: return A", "B", "A", "")
        self.assert_scan("class A:\n  B = int\n  def m[T: B](self, a: B): return B", "B", "A")

    @unittest.skipIf(sys.version_info < (3, 13), "defaults are new in 3.13")
    def test_defaults(self):
        self.assert_scan("class A[T = D, *Ts = E, **P = F]: pass", "D E F", "A")


@unittest.skipIf(sys.version_info < (3, 14), "template strings are new in 3.14")
class TemplateTest(ScanCase):
    def test_interpolations(self):
        self.assert_scan("t'{a:{b}} {c!r}'", "a b c")


class SourceTest(unittest.TestCase):
    def error_of(self, source):
        try:
            scan_globals(source)
        except SyntaxError as error:
            return error
        self.fail("no SyntaxError")

    def test_syntax_error(self):
        error = self.error_of(b"x = 1\ny = = 2")
        self.assertEqual(("<unknown>", 2), (error.filename, error.lineno))
        self.assertIsNotNone(error.__traceback__)
        text = "".join(traceback.format_exception(SyntaxError, error, None))
        self.assertTrue(text.startswith('  File "<unknown>", line 2\n    y = = 2\n'), text)

    def test_nul(self):
        self.assertEqual("source code string cannot contain null bytes", self.error_of(b"a\0b").msg)

    def test_not_utf8(self):
        self.assertIn("utf-8", str(self.error_of(b"x = '\xff'")).lower())

    def test_coding_comment_is_honoured(self):
        self.assertEqual((["é"], [], [], [], []), scan_globals(b"# coding: latin-1\n\xe9"))

    def test_no_warning_is_shown(self):
        with warnings.catch_warnings(record=True) as shown:
            scan_globals(rb"x = '\d'")
        self.assertEqual([], shown)

    def test_names_come_sorted(self):
        self.assertEqual(
            (["a", "b"], ["x", "y", "z"], ["x"], [], []), scan_globals(b"z = y = b, a\nif a: x = 1")
        )

    def test_deep_tree(self):
        outcome = []

        def scan():
            for source in ("x = " + "+".join(["a"] * 900), "if a: pass\n" + "elif b: pass\n" * 900):
                outcome.append(scan_globals(source.encode())[0])

        run_with_big_stack(scan)
        self.assertEqual([["a"], ["a", "b"]], outcome)

    def test_tree_deeper_than_python_allows(self):
        outcome = []

        def scan():
            try:
                outcome.append(scan_globals(b"x = " + b"+".join([b"a"] * 50_000))[0])
            except RecursionError as error:
                outcome.append(["a"] if "recursion" in str(error) else error)

        run_with_big_stack(scan)
        self.assertEqual([["a"]], outcome)


def run_with_big_stack(function):
    """Run it on a thread like those of the bridge."""
    previous = threading.stack_size(16 << 20)
    try:
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(previous)


if __name__ == "__main__":
    unittest.main()
