# SPDX-License-Identifier: Apache-2.0
# Thin: Meson knows how to build, this knows what one types. See README.md.

BUILD := build
PREFIX ?= /usr/local

.PHONY: build programs run demo test test-full unit check bench deb install clean packages

build: packages $(BUILD)/build.ninja
	@ninja -C $(BUILD)

# Without tests and benches, which take longer than the two programs.
programs: packages $(BUILD)/build.ninja
	@ninja -C $(BUILD) posternd postern

packages:
	@tools/packages build

$(BUILD)/build.ninja:
	@meson setup --prefix $(PREFIX) $(BUILD) >/dev/null

# The gateway in a small world of its own, in the foreground: nothing leaves this machine.
run: programs
	@tools/packages demo
	@demo/run

# The guide's seven cases through that world, each dialogue printed.
demo: programs
	@tools/packages demo
	@demo/cases

# Everything that belongs in CI; the last line is "N passed, N failed".
test: build
	@tools/packages demo test
	@tests/run

# What takes hours: every system call, ten thousand power cuts, ten thousand sessions (tests/README.md). Needs root.
test-full: build
	@tools/packages demo test
	@tests/run full

# The unit tests alone, for work in progress.
unit: build
	@meson test -C $(BUILD) --no-rebuild --print-errorlogs

# Speed beside Postfix, into docs/performance.md; settings in bench/README.md. Needs root. What is
# measured is optimized over all files, as the package is; what one works with is not: linking takes longer.
bench: packages $(BUILD)-release/build.ninja
	@ninja -C $(BUILD)-release posternd postern fill-spool
	@WORKDIR=$(BUILD)/bench POSTERN_BUILD=$(abspath $(BUILD)-release) bench/report.sh

$(BUILD)-release/build.ninja:
	@meson setup --prefix $(PREFIX) -Db_lto=true $(BUILD)-release >/dev/null

# A package for Debian, in build/deb.
deb:
	@tools/packages build test
	@tools/make_deb $(BUILD)/deb

install: build
	@meson install -C $(BUILD) --no-rebuild

clean:
	@rm -rf $(BUILD) $(BUILD)-*
