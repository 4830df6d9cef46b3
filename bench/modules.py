"""Runs the documented examples of functions, and remembers how they were called: for bench/modules.exs."""

import contextlib
import copy
import doctest
import importlib
import inspect
import io
import os
import sys
import tempfile
import warnings

# What the manual has an example for, and the docstring has not. Each is one call.
MANUAL = {
    "json": """
        dumps(['foo', {'bar': ('baz', None, 1.0, 2)}]); loads('["foo", {"bar":["baz", null, 1.0, 2]}]')
        dump(['streaming API'], io.StringIO()); load(io.StringIO('["streaming API"]'))
        JSONDecoder(); JSONEncoder(indent=2)""",
    "pathlib": """
        PurePath('setup.py'); PurePosixPath('/etc/hosts'); PureWindowsPath('c:/', 'Users')
        Path('docs'); PosixPath('/etc/hosts')""",
    "re": """
        compile('[a-z]+'); search('c', 'abcdef'); match('c', 'abcdef'); fullmatch('p.*n', 'python')
        split(r'\\W+', 'Words, words, words.', maxsplit=1)
        findall(r'\\bf[a-z]*', 'which foot or hand fell fastest')
        finditer('a', 'banana'); sub('x*', '-', 'abxd'); subn('a', 'b', 'banana', count=2)
        escape('https://www.python.org')
        purge()""",
    "math": """
        comb(5, 2); factorial(5); gcd(12, 18); isqrt(17); lcm(4, 6); perm(5, 2); ceil(1.5)
        fabs(-1.5); floor(1.5)
        fma(2.0, 3.0, 1.0); fmod(-1.0, 3.0); modf(3.5); remainder(5.0, 3.0); trunc(3.7)
        copysign(1.0, -0.0); frexp(8.0)
        isclose(1.0, 1.0, rel_tol=1e-9); isfinite(1.0); isinf(1.0); isnan(1.0); ldexp(0.5, 4)
        nextafter(1.0, 2.0, steps=2)
        ulp(1.0); cbrt(27.0); exp(1.0); exp2(3.0); expm1(1e-5); log(8, 2); log1p(1e-5); log2(8)
        log10(1000); pow(2.0, 3.0)
        sqrt(2); dist([1, 1], [4, 5]); fsum([.1, .1, .1]); hypot(3, 4); prod([1, 2, 3], start=2)
        sumprod([1, 2], [3, 4]); degrees(3.14); radians(180); acos(0.5); asin(0.5); atan(0.5)
        atan2(1.0, 2.0); cos(0.5)
        sin(0.5); tan(0.5); acosh(1.5); asinh(0.5); atanh(0.5); cosh(0.5); sinh(0.5); tanh(0.5)
        erf(0.5); erfc(0.5)
        gamma(5.0); lgamma(5.0)""",
    "random": """
        seed(1); getstate(); setstate(__import__('random').getstate()); randbytes(4)
        randrange(10); randint(1, 6); getrandbits(8)
        choice(['win', 'lose']); choices(['red', 'black'], [18, 18], k=6); shuffle([1, 2, 3])
        sample([10, 20, 30], k=2)
        binomialvariate(n=10, p=0.5); uniform(2.5, 10.0); triangular(0, 1, 0.5); betavariate(1, 2)
        expovariate(1 / 5)
        gammavariate(1, 2); gauss(mu=0.0, sigma=1.0); lognormvariate(0, 1); normalvariate(0, 1)
        vonmisesvariate(0, 1)
        paretovariate(3); weibullvariate(1, 2); random(); Random(42); SystemRandom()""",
    "textwrap": """
        wrap('a b c d', width=3); fill('a b c d', width=3); shorten('Hello  world!', width=12)
        indent('hello', '  '); TextWrapper(width=40)""",
    "urllib.parse": """
        urlparse('scheme://netloc/path;parameters?query#fragment')
        urlunparse(('http', 'a', 'b', '', '', ''))
        urljoin('http://www.cwi.nl/%7Eguido/Python.html', 'FAQ.html'); urldefrag('http://a/b#c')
        urlsplit('http://a/b')
        urlunsplit(('http', 'a', 'b', '', '')); urlencode({'spam': 1, 'eggs': 2})
        parse_qs('a=1&b=2', keep_blank_values=True)
        parse_qsl('a=1&b=2'); quote('/El Ni\\u00f1o/'); quote_plus('/El Ni\\u00f1o/', safe='/')
        quote_from_bytes(b'a\\xef')
        unquote('/El%20Ni%C3%B1o/'); unquote_plus('/El+Ni%C3%B1o/'); unquote_to_bytes('a%26')""",
    "datetime": """
        date(2002, 12, 4); datetime(2009, 1, 6, 15, 8, 24); time(12, 10, 30)
        timedelta(days=50, seconds=27)
        timezone(__import__('datetime').timedelta(hours=5)); tzinfo()""",
    "hashlib": """
        new('sha256'); md5(b'a'); sha1(b'a'); sha224(b'a'); sha256(b'a'); sha384(b'a')
        sha512(b'a'); blake2b(digest_size=16)
        blake2s(b'a'); sha3_224(b'a'); sha3_256(b'a'); sha3_384(b'a'); sha3_512(b'a')
        shake_128(b'a'); shake_256(b'a')
        pbkdf2_hmac('sha256', b'password', b'salt', 1000)
        scrypt(b'password', salt=b'salt', n=2, r=8, p=1)
        file_digest(io.BytesIO(b'a'), 'sha256')""",
    "PIL.Image": """
        new('RGB', (8, 8), color='red'); open(picture); blend(new('L', (8, 8)), new('L', (8, 8)), 0.5)
        alpha_composite(new('RGBA', (8, 8)), new('RGBA', (8, 8)))
        composite(new('L', (2, 2)), new('L', (2, 2)), new('L', (2, 2)))
        eval(new('L', (2, 2)), lambda x: x + 1); merge('RGB', [new('L', (2, 2))] * 3)
        fromarray(numpy.zeros((2, 2), 'uint8'))
        frombytes('L', (2, 2), b'abcd'); frombuffer('L', (2, 2), b'abcd')
        effect_mandelbrot((8, 8), (-1, -1, 1, 1), 10)
        effect_noise((8, 8), 5.0); linear_gradient('L'); radial_gradient('L'); getmodebase('RGB')
        getmodetype('RGB')
        getmodebands('RGB'); getmodebandnames('RGB'); init(); preinit(); registered_extensions()
        isImageType(new('L', (1, 1)))
        Image()""",
    "requests": """
        Request('GET', 'https://httpbin.org/get'); session(); Session(); PreparedRequest()
        Response()""",
}


class Holder:
    """Keeps a value from being decoded."""

    def __init__(self, value):
        self.value = value


def _plain(value):
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return True
    if kind is float:
        return value - value == 0
    if kind in (list, tuple):
        return all(map(_plain, value))
    return kind is dict and all(type(key) is str and _plain(item) for key, item in value.items())


def _copy(value):
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def record(module_name, name):
    """Run the example of a function. Return its first call and what that has returned, None where there is none."""
    module = importlib.import_module(module_name)
    target = getattr(module, name)
    manual = _manual(module_name).get(name)
    calls = []

    def recorder(*args, **kwargs):
        before = _copy(args), _copy(kwargs)
        result = target(*args, **kwargs)
        if not calls:
            calls.append((*before, result))
        return result

    recorder.__doc__ = target.__doc__
    names = {**vars(module), name: recorder, module_name.split(".")[-1]: module}
    names.update(_usual_names())
    try:
        if manual is not None:
            names.update(
                io=io, numpy=importlib.import_module("numpy") if module_name == "PIL.Image" else None
            )
            names["picture"] = _picture() if module_name == "PIL.Image" else None
            _run([manual], names)
        else:
            text = inspect.cleandoc(target.__doc__ or "")
            examples = doctest.DocTestParser().get_examples(text)
            setattr(module, name, recorder)
            try:
                _run([example.source for example in examples], names, calls)
            finally:
                setattr(module, name, target)
    except ValueError:
        return None
    return calls[0] if calls else None


def _run(sources, names, calls=()):
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for source in sources:
            # It may show an error, or need what is not here, such as a network.
            with contextlib.suppress(Exception):
                exec(compile(source.strip() + "\n", "<example>", "single"), names)
            if calls:
                break


def _usual_names():
    usual = (("np", "numpy"), ("pd", "pandas"), ("pl", "polars"), ("nx", "networkx"))
    return {alias: sys.modules[name] for alias, name in usual if name in sys.modules}


def _manual(module_name):
    found = {}
    for line in MANUAL.get(module_name, "").split("\n"):
        for call in line.strip().split("; "):
            if call:
                found[call.split("(")[0]] = call
    return found


def _picture():
    from PIL import Image

    path = os.path.join(tempfile.gettempdir(), "pythonx-bench.png")
    Image.new("RGB", (4, 4)).save(path)
    return path


def arguments(recorded):
    """Return the arguments of a recorded call: data as it is, anything else in a holder."""
    if recorded is None:
        return None
    args, kwargs, _result = recorded

    def wrap(value):
        return ("plain", value) if _plain(value) else ("object", Holder(value))

    return [wrap(value) for value in args], {key: wrap(value) for key, value in kwargs.items()}


def same(recorded, result):
    """Return whether Elixir's call returned what Python's did. Lists and tuples, text and bytes are not told apart."""
    expected = recorded[2]
    try:
        if expected is result or bool(_simple(expected) == _simple(result)):
            return True
    except Exception:
        pass
    try:
        return type(expected) is type(result) and repr(expected) == repr(result)
    except Exception:
        return False


def _simple(value):
    if isinstance(value, (list, tuple)):
        return [_simple(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return value.decode("latin-1")
    return value
