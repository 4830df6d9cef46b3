"""The standard streams, and the evaluation that threads print for."""

import _thread
import asyncio
import codecs
import concurrent.futures
import io
import logging
import os
import subprocess
import sys
import threading
import traceback
import unittest

import fake_native
from pythonx import _streams


class StreamCase(unittest.TestCase):
    def setUp(self):
        streams = sys.stdin, sys.stdout, sys.stderr
        _streams.install()
        self.stdin, self.stdout, self.stderr = sys.stdin, sys.stdout, sys.stderr
        sys.stdin, sys.stdout, sys.stderr = streams
        fake_native.written.clear()
        fake_native.flushed.clear()

    def text(self, fd=1):
        return "".join(text for _, to, text in fake_native.written if to == fd)


class TextOutputTest(StreamCase):
    def test_write(self):
        self.assertEqual(5, self.stdout.write("żółw\0"))
        print("a", "b", file=self.stderr)
        self.stdout.writelines(["c", "d"])
        self.assertEqual(("żółw\0cd", "a b\n"), (self.text(1), self.text(2)))

    def test_write_of_something_else(self):
        for value in (1, b"a", None):
            with self.assertRaisesRegex(TypeError, r"write\(\) argument must be str, not"):
                self.stdout.write(value)

    def test_what_it_says_of_itself(self):
        for stream, name in ((self.stdout, "<stdout>"), (self.stderr, "<stderr>")):
            said = (
                stream.name,
                stream.mode,
                stream.encoding,
                stream.errors,
                stream.newlines,
                stream.line_buffering,
            )
            self.assertEqual((name, "w", "utf-8", "backslashreplace", None, True), said)
            can = (stream.writable(), stream.readable(), stream.seekable(), stream.isatty(), stream.closed)
            self.assertEqual((True, False, False, False, False), can)
            self.assertIsInstance(stream, io.TextIOBase)
            self.assertIn(name, repr(stream))

    def test_unsupported(self):
        for name in ("fileno", "read", "readline", "tell", "truncate", "detach"):
            with self.assertRaises(io.UnsupportedOperation, msg=name):
                getattr(self.stdout, name)()

    def test_flush(self):
        print("a", end="", flush=True, file=self.stdout)
        self.stderr.flush()
        self.assertEqual([1, 2], fake_native.flushed)

    def test_closing_leaves_it_open(self):
        self.stdout.close()
        with self.stdout:
            pass
        self.assertFalse(self.stdout.closed)
        self.assertEqual(1, self.stdout.write("a"))

    def test_reconfigure(self):
        self.stdout.reconfigure(encoding="latin-1", errors="strict", newline="", line_buffering=False)
        self.assertEqual("utf-8", self.stdout.encoding)
        with self.assertRaises(TypeError):
            self.stdout.reconfigure(speed="high")

    def test_logging(self):
        logger = logging.getLogger("streams")
        handler = logging.StreamHandler(self.stderr)
        logger.addHandler(handler)
        logger.warning("careful")
        logger.removeHandler(handler)
        self.assertEqual("careful\n", self.text(2))


class BytesOutputTest(StreamCase):
    def test_write(self):
        self.assertEqual(3, self.stdout.buffer.write(b"abc"))
        self.assertEqual(2, self.stdout.buffer.write(bytearray(b"de")))
        self.assertEqual(3, self.stdout.buffer.write(memoryview(b"f1g2h3")[::2]))
        self.assertEqual(0, self.stderr.buffer.write(b""))
        self.assertEqual(("abcdefgh", ""), (self.text(1), self.text(2)))

    def test_write_of_something_else(self):
        for value in ("a", 1, None):
            with self.assertRaises(TypeError):
                self.stdout.buffer.write(value)
        self.assertEqual("", self.text())

    def test_a_character_in_pieces(self):
        for byte in "€".encode():
            self.stdout.buffer.write(bytes([byte]))
            self.stdout.flush()
        self.assertEqual("€", self.text())

    def test_what_is_no_utf8(self):
        self.stdout.buffer.write(b"a\xffb\xc3")
        self.stdout.write("c")
        self.assertEqual("a\\xffb\\xc3c", self.text())

    def test_beginnings_of_characters_are_each_threads_own(self):
        self.stdout.buffer.write(b"\xc3")
        thread = threading.Thread(target=self.stdout.buffer.write, args=("ż".encode(),))
        thread.start()
        thread.join()
        self.stdout.buffer.write(b"\xb3")
        self.assertEqual("żó", self.text())

    def test_what_it_says_of_itself(self):
        buffer = self.stdout.buffer
        self.assertEqual(("<stdout>", "wb"), (buffer.name, buffer.mode))
        can = (buffer.writable(), buffer.readable(), buffer.seekable(), buffer.isatty(), buffer.closed)
        self.assertEqual((True, False, False, False, False), can)
        self.assertRaises(io.UnsupportedOperation, buffer.fileno)
        self.assertIsInstance(buffer, io.BufferedIOBase)

    def test_wrappers_that_programs_put_around_it(self):
        wrapper = io.TextIOWrapper(self.stdout.buffer, encoding="utf-8", line_buffering=True)
        print("ż", file=wrapper)
        del wrapper
        codecs.getwriter("utf-8")(self.stdout.buffer).write("ó")
        self.stdout.write("ł")
        self.assertEqual("ż\nół", self.text().replace("\r", ""))


class InputTest(StreamCase):
    def test_reading(self):
        for stream in (self.stdin, self.stdin.buffer):
            for name in ("read", "readline", "readlines", "__next__"):
                self.assertRaisesRegex(RuntimeError, "^stdin not supported$", getattr(stream, name))
            self.assertRaises(RuntimeError, list, stream)
        self.assertRaises(RuntimeError, self.stdin.read, 1)
        self.assertRaises(RuntimeError, self.stdin.buffer.readinto, bytearray(1))

    def test_input_writes_its_prompt_first(self):
        streams = sys.stdin, sys.stdout, sys.stderr
        sys.stdin, sys.stdout, sys.stderr = self.stdin, self.stdout, self.stderr
        try:
            with self.assertRaisesRegex(RuntimeError, "stdin not supported"):
                input("name? ")
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams
        self.assertEqual("name? ", self.text())

    def test_what_it_says_of_itself(self):
        stdin = self.stdin
        self.assertEqual(("<stdin>", "r", "utf-8"), (stdin.name, stdin.mode, stdin.encoding))
        stdin.close()
        self.assertEqual((False, False, False), (stdin.isatty(), stdin.seekable(), stdin.closed))
        self.assertRaises(io.UnsupportedOperation, stdin.fileno)


class ThreadTest(unittest.TestCase):
    def setUp(self):
        _streams.install_thread_hooks()
        fake_native.module.set_evaluation("A")
        self.addCleanup(fake_native.module.set_evaluation, None)
        self.seen = []

    def see(self):
        self.seen.append(fake_native.module.current_evaluation())

    def run_thread(self, thread):
        thread.start()
        thread.join()

    def test_a_thread_belongs_to_the_evaluation_that_started_it(self):
        thread = threading.Thread(target=self.see)
        fake_native.module.set_evaluation("B")
        self.run_thread(thread)
        self.run_thread(threading.Thread(target=self.see, daemon=True))
        self.assertEqual(["B", "B"], self.seen)

    def test_subclasses_and_timers(self):
        outer = self

        class Seeing(threading.Thread):
            def run(self):
                outer.see()

        self.run_thread(Seeing())
        self.run_thread(threading.Timer(0, self.see))
        self.run_thread(threading.Thread(target=self.run_thread, args=(threading.Thread(target=self.see),)))
        self.assertEqual(["A", "A", "A"], self.seen)

    def test_a_builtin_target(self):
        fake_native.written.clear()
        self.run_thread(
            threading.Thread(target=print, args=("hi",), kwargs={"file": _streams.TextOutput(1, "x")})
        )
        self.assertEqual([("A", 1, "hi"), ("A", 1, "\n")], fake_native.written)

    def test_outside_of_evaluations(self):
        fake_native.module.set_evaluation(None)
        self.run_thread(threading.Thread(target=self.see))
        self.assertEqual([None], self.seen)

    def test_a_thread_object_does_not_keep_the_evaluation(self):
        thread = threading.Thread(target=self.see)
        self.run_thread(thread)
        self.assertNotIn("A", thread.__dict__.values())
        self.assertRaises(RuntimeError, thread.start)
        self.assertNotIn("A", thread.__dict__.values())

    def test_uncaught_errors_look_untouched(self):
        caught = []
        hook, threading.excepthook = threading.excepthook, caught.append
        self.addCleanup(setattr, threading, "excepthook", hook)

        def fail():
            frames.extend(frame.name for frame in traceback.extract_stack() if "pythonx" in frame.filename)
            raise ValueError

        frames = []
        self.run_thread(threading.Thread(target=fail))
        names = [frame.name for frame in traceback.extract_tb(caught[0].exc_traceback)]
        self.assertEqual(["_bootstrap_inner", "run", "fail"], names)

    def test_hooking_twice_is_hooking_once(self):
        start = threading.Thread.start
        _streams.install_thread_hooks()
        self.assertIs(start, threading.Thread.start)
        self.assertEqual("start", start.__name__)
        self.assertIn("Start the thread", start.__doc__)

    def test_a_pools_task_belongs_to_the_evaluation_that_submitted_it(self):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for evaluation in "ABC":
                fake_native.module.set_evaluation(evaluation)
                pool.submit(self.see).result()
            fake_native.module.set_evaluation(None)
            pool.submit(self.see).result()
            fake_native.module.set_evaluation("D")
            self.assertEqual([3, 4], list(pool.map(abs, [-3, -4])))
            pool.submit(self.see)
        self.assertEqual(["A", "B", "C", "A", "D"], self.seen)

    def test_errors_of_a_pools_task_look_untouched(self):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(self.see).result()
            error = pool.submit(int, "x").exception()
        self.assertEqual(
            {"thread.py"}, {os.path.basename(f.filename) for f in traceback.extract_tb(error.__traceback__)}
        )

    def test_asyncio(self):
        async def main():
            await asyncio.to_thread(self.see)
            await asyncio.gather(*(asyncio.to_thread(self.see) for _ in range(3)))
            await asyncio.get_running_loop().run_in_executor(None, self.see)

        asyncio.run(main())
        self.assertEqual(["A"] * 5, self.seen)

    def test_raw_threads_are_left_alone(self):
        done = _thread.allocate_lock()
        done.acquire()
        _thread.start_new_thread(lambda: (self.see(), done.release()), ())
        done.acquire()
        self.assertEqual([None], self.seen)


@unittest.skipUnless(hasattr(os, "fork"), "needs fork")
class ForkTest(unittest.TestCase):
    def test_a_forked_process_writes_to_its_file_descriptors(self):
        code = (
            "import fake_native, os, sys\n"
            "from pythonx import _streams\n"
            "_streams.install()\n"
            "pid = os.fork()\n"
            "print('child' if pid == 0 else 'parent', end='')\n"
            "sys.stdout.buffer.write('ż\\udcff'.encode('utf-8', 'surrogateescape'))\n"
            "print('!', file=sys.stderr, end='', flush=True)\n"
            "pid or os._exit(0)\n"
            "os.waitpid(pid, 0)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=os.path.dirname(__file__) or ".", capture_output=True
        )
        self.assertEqual(("childż\\xff", b"!"), (done.stdout.decode(), done.stderr))


if __name__ == "__main__":
    unittest.main()
