"""Build files of an emitted network: CMake and Make."""

from __future__ import annotations

from collections.abc import Sequence

from bitwright.mcu.cpu.cores import cores

FLAGS = "-std=c99 -O3 -Wall -Wextra -pedantic -ffunction-sections -fdata-sections -fno-strict-aliasing"


def makefile(prefix: str, sources: Sequence[str], core: str | None = None) -> str:
    """A Makefile for the library and its self-test, on this machine or with ``CROSS=arm-none-eabi-``."""
    computer = cores().get(core or "")
    arch = " ".join(computer.gcc.flags) if computer is not None else ""
    return f"""\
# make              the library lib{prefix}.a
# make shared       the library lib{prefix}.so, for other languages
# make check        build and run the self-test on this machine
# make CROSS=arm-none-eabi- ARCH="-mcpu=cortex-m4 -mthumb"
CROSS ?=
ARCH ?= {arch}
CC := $(CROSS)$(or $(CC_NAME),gcc)
AR := $(CROSS)ar
CFLAGS ?= {FLAGS}
SOURCES := {" ".join(sources)}

lib{prefix}.a: $(SOURCES:.c=.o)
\t$(AR) rcs $@ $^

lib{prefix}.so: $(SOURCES)
\t$(CC) $(ARCH) $(CFLAGS) -shared -fPIC -o $@ $^ -lm

shared: lib{prefix}.so

%.o: %.c
\t$(CC) $(ARCH) $(CFLAGS) -c -o $@ $<

{prefix}_test: $(SOURCES) {prefix}_test.c
\t$(CC) $(ARCH) $(CFLAGS) -D{prefix.upper()}_HOOKS=1 -o $@ $^ -lm

check: {prefix}_test
\t./{prefix}_test

clean:
\trm -f *.o lib{prefix}.a lib{prefix}.so {prefix}_test

.PHONY: check clean shared
"""


def cmake(prefix: str, sources: Sequence[str]) -> str:
    """A CMakeLists.txt: a library to link, and the self-test for ctest."""
    return f"""\
cmake_minimum_required(VERSION 3.13)
project({prefix} C)

add_library({prefix} STATIC {" ".join(sources)})
target_include_directories({prefix} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
set_target_properties({prefix} PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON)
if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options({prefix} PRIVATE -O3 -ffunction-sections -fdata-sections -fno-strict-aliasing)
endif()

if(CMAKE_PROJECT_NAME STREQUAL PROJECT_NAME)
  enable_testing()
  add_executable({prefix}_test {prefix}_test.c {" ".join(sources)})
  target_compile_definitions({prefix}_test PRIVATE {prefix.upper()}_HOOKS=1)
  set_target_properties({prefix}_test PROPERTIES C_STANDARD 99)
  if(NOT MSVC)
    target_link_libraries({prefix}_test PRIVATE m)
  endif()
  add_test(NAME {prefix}_test COMMAND {prefix}_test)
endif()
"""
