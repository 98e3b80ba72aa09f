#!/bin/sh
# What the tests need beyond Python: compilers and machines to run generated code on.  Installed where that is allowed,
# named where it is not.
set -eu

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need gcc gcc
need g++ g++
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
# Generated C is also built for microcontrollers and run on imitated boards.
need arm-none-eabi-gcc "gcc-arm-none-eabi libnewlib-arm-none-eabi"
need riscv64-unknown-elf-gcc gcc-riscv64-unknown-elf
need qemu-system-arm qemu-system-arm
need qemu-system-riscv32 qemu-system-misc
# ... and for computers with Arm processors.
need aarch64-linux-gnu-gcc "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
need qemu-aarch64 qemu-user
# Exported Verilog runs in a simulator that is not ours.
need iverilog iverilog
need make make
# The app and reports are looked at in a real browser; the fonts have the signs of foreign names.
need chromium "chromium fonts-dejavu-core fonts-noto-color-emoji"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "The tests compile generated C and run it, and these packages are missing:$missing" >&2
  echo "On Debian or Ubuntu: sudo apt-get install -y$missing" >&2
  exit 1
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  (a list of packages)
apt-get install -y -qq --no-install-recommends $missing >/dev/null
