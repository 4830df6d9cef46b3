/* What the public headers of CPython 3.10 to 3.15 ask of pyconfig.h, for the platforms that wheels are built for: all of
 * them are 64-bit, little-endian, and have POSIX threads. The real file belongs to the machine where a Python was built, and
 * nobody publishes that of macOS. build.py compares what the preprocessor makes of Python.h with this one and with a real one.
 *
 * Py_GIL_DISABLED comes from the command line: it is all that the headers of a free-threaded Python have of their own.
 */
#ifndef Py_PYCONFIG_H
#define Py_PYCONFIG_H

#define SIZEOF_SHORT 2
#define SIZEOF_INT 4
#define SIZEOF_LONG 8
#define SIZEOF_LONG_LONG 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_VOID_P 8
#define SIZEOF_UINTPTR_T 8
#define SIZEOF_OFF_T 8
#define SIZEOF_TIME_T 8
#define SIZEOF_PID_T 4
#define SIZEOF_WCHAR_T 4
#define SIZEOF__BOOL 1
#define SIZEOF_FLOAT 4
#define SIZEOF_DOUBLE 8
#define SIZEOF_PTHREAD_T 8

#ifdef __APPLE__
#define SIZEOF_PTHREAD_KEY_T 8
#define PTHREAD_KEY_T_IS_COMPATIBLE_WITH_INT 0
#else
#define SIZEOF_PTHREAD_KEY_T 4
#define PTHREAD_KEY_T_IS_COMPATIBLE_WITH_INT 1
#endif

/* The one that differs between processors: Apple's arm64 has no wider type than double. */
#if defined(__APPLE__) && defined(__aarch64__)
#define SIZEOF_LONG_DOUBLE 8
#define ALIGNOF_MAX_ALIGN_T 8
#else
#define SIZEOF_LONG_DOUBLE 16
#define ALIGNOF_MAX_ALIGN_T 16
#endif
#define ALIGNOF_LONG 8
#define ALIGNOF_SIZE_T 8

#define HAVE_CLOCK_GETTIME 1
#define HAVE_COPYSIGN 1
#define HAVE_DECL_ISFINITE 1
#define HAVE_DECL_ISINF 1
#define HAVE_DECL_ISNAN 1
#define HAVE_ERRNO_H 1
#define HAVE_FINITE 1
#define HAVE_FORK 1
#define HAVE_HYPOT 1
#define HAVE_LANGINFO_H 1
#define HAVE_PTHREAD_H 1
#define HAVE_READLINK 1
#define HAVE_REALPATH 1
#define HAVE_ROUND 1
#define HAVE_SSIZE_T 1
#define HAVE_STDINT_H 1
#define HAVE_SYS_SELECT_H 1
#define HAVE_SYS_STAT_H 1
#define HAVE_SYS_TIME_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_UNISTD_H 1
#define HAVE_WCHAR_H 1
#define HAVE_BUILTIN_ATOMIC 1
#define HAVE_STD_ATOMIC 1
#ifdef __x86_64__
#define HAVE_GCC_ASM_FOR_X87 1
#endif
#define STDC_HEADERS 1
#define TIME_WITH_SYS_TIME 1

#ifndef __APPLE__
#define _GNU_SOURCE 1
#define _POSIX_C_SOURCE 200809L
#define _XOPEN_SOURCE 700
#define _XOPEN_SOURCE_EXTENDED 1
#define _FILE_OFFSET_BITS 64
#define _LARGEFILE_SOURCE 1
#endif

#define WITH_DOC_STRINGS 1
#define WITH_FREELISTS 1
#define WITH_PYMALLOC 1
#define WITH_MIMALLOC 1
#define PY_FORMAT_SIZE_T "z"

#endif
