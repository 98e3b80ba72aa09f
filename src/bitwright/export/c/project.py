"""Build files of an emitted network: CMake and Make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bitwright.mcu.cpu.cores import cores
from bitwright.mcu.microcontrollers import microcontrollers

FLAGS = "-std=c99 -O3 -Wall -Wextra -pedantic -ffunction-sections -fdata-sections -fno-strict-aliasing"


LIBRARY_LINES: Mapping[str, str] = {
    "own": "",
    "cmsis-nn": """\
# The kernels are those of your CMSIS-NN: make CMSIS_NN=/path/to/CMSIS-NN
CMSIS_NN ?= ../CMSIS-NN
CFLAGS += -isystem $(CMSIS_NN)/Include
LIBRARY := $(filter-out %_f16.c %_f32.c,$(wildcard $(CMSIS_NN)/Source/*/*.c))
""",
    "cmsis-nn-q7": """\
# The kernels are those of your CMSIS 5.9.0: make CMSIS_5=/path/to/CMSIS_5
CMSIS_5 ?= ../CMSIS_5
CFLAGS += -isystem $(CMSIS_5)/CMSIS/NN/Include -isystem $(CMSIS_5)/CMSIS/DSP/Include \\
          -isystem $(CMSIS_5)/CMSIS/Core/Include
LIBRARY := $(wildcard $(CMSIS_5)/CMSIS/NN/Source/*/*.c)
""",
}


def makefile(prefix: str, sources: Sequence[str], core: str | None = None, kernels: str = "own") -> str:
    """A Makefile for the library, with the compiler and the flags of ``core``, and its self-test on this machine."""
    computer, small = cores().get(core or ""), microcontrollers().get(core or "")
    arch = " ".join(computer.gcc.flags if computer is not None else small.flags if small is not None else ())
    cross = small.cross if small is not None else ""
    return f"""\
# make              the library lib{prefix}.a{f" for {core}" if core else ""}
# make shared       the library lib{prefix}.so, for other languages
# make check        build and run the self-test on this machine
# make CROSS=arm-none-eabi- ARCH="-mcpu=cortex-m4 -mthumb"
CROSS ?= {cross}
ARCH ?= {arch}
HOST_CC ?= $(if $(CROSS),gcc,$(CC))
HOST_ARCH ?= {"" if small is not None else "$(ARCH)"}
CC := $(CROSS)$(or $(CC_NAME),gcc)
AR := $(CROSS)ar
CFLAGS ?= {FLAGS}
SOURCES := {" ".join(sources)}
{LIBRARY_LINES[kernels]}
lib{prefix}.a: $(SOURCES:.c=.o)
\t$(AR) rcs $@ $^

lib{prefix}.so: $(SOURCES) $(LIBRARY)
\t$(HOST_CC) $(HOST_ARCH) $(CFLAGS) -shared -fPIC -o $@ $^ -lm

shared: lib{prefix}.so

%.o: %.c
\t$(CC) $(ARCH) $(CFLAGS) -c -o $@ $<

{prefix}_test: $(SOURCES) {prefix}_test.c $(LIBRARY)
\t$(HOST_CC) $(HOST_ARCH) $(CFLAGS) -D{prefix.upper()}_HOOKS=1 -o $@ $^ -lm

check: {prefix}_test
\t./{prefix}_test

clean:
\trm -f *.o lib{prefix}.a lib{prefix}.so {prefix}_test

.PHONY: check clean shared
"""


def cmake(prefix: str, sources: Sequence[str], core: str | None = None) -> str:
    """A CMakeLists.txt: a library to link, with the flags of ``core``, and the self-test for ctest."""
    computer, small = cores().get(core or ""), microcontrollers().get(core or "")
    flags = ";".join(computer.gcc.flags if computer is not None else small.flags if small is not None else ())
    # Flags for a microcontroller are for cross-compiling only: the self-test runs on this machine.
    arch = (
        f"""
set(BW_ARCH "{flags}" CACHE STRING "Options that make code for {core}")
"""
        if flags
        else ""
    )
    option = "$<$<BOOL:${CMAKE_CROSSCOMPILING}>:${BW_ARCH}>" if small is not None else "${BW_ARCH}"
    use = f"target_compile_options({prefix} PUBLIC {option})\n" if flags else ""
    return f"""\
cmake_minimum_required(VERSION 3.13)
project({prefix} C)
{arch}
add_library({prefix} STATIC {" ".join(sources)})
target_include_directories({prefix} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
set_target_properties({prefix} PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON)
if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options({prefix} PRIVATE -O3 -ffunction-sections -fdata-sections -fno-strict-aliasing)
endif()
{use}
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
