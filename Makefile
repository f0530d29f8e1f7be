# SPDX-License-Identifier: Apache-2.0
# One non-recursive Makefile, out of tree in $(B). `make help` lists the targets.

B ?= build
SAN ?=
CC ?= cc
PREFIX ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0

FOLDERS := base io qcow2 convert lib
LIB_SRC := $(foreach d,$(FOLDERS),$(sort $(wildcard $(d)/*.c)))
CLI_SRC := $(sort $(wildcard cli/*.c))
# Machines: in the program, not in the library.
VM_SRC = $(sort $(filter-out $(if $(call on,$(HAVE_LIBVIRT)),,driver/libvirt_%.c) \
	$(if $(call on,$(HAVE_LIBARCHIVE)),,snapshot/tar_libarchive.c),$(wildcard driver/*.c snapshot/*.c)))
UNIT_SRC := $(sort $(wildcard tests/unit/*.c))

LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)
VM_OBJ = $(VM_SRC:%.c=$(B)/%.o)
# The image service: the same.
STORE_SRC = $(sort $(if $(call on,$(HAVE_CURL)),$(wildcard store/*.c),store/store.c))
STORE_OBJ = $(STORE_SRC:%.c=$(B)/%.o)
UNIT_OBJ := $(UNIT_SRC:%.c=$(B)/%.o)

# Libraries that must be there; a goal that builds nothing does not ask for them.
NEEDED := libzstd zlib libcrypto jansson
ifneq ($(filter-out help clean deps test test-long demo demo-vm bench bench-vm bench-increment bench-glance,$(or $(MAKECMDGOALS),all)),)
ifneq ($(shell pkg-config --exists $(NEEDED) && echo 1),1)
$(error One of these libraries is missing: $(NEEDED). `scripts/deps build` installs what the build needs)
endif
endif

comma := ,
# Libraries that make it faster or safer, found by pkg-config; `make HAVE_ISAL=0` builds without.
have = $(shell pkg-config --exists $(1) && echo 1 || echo 0)
on = $(filter 1,$(1))
HAVE_LIBDEFLATE ?= $(call have,libdeflate)
HAVE_ISAL ?= $(call have,libisal)
HAVE_SECCOMP ?= $(call have,libseccomp)
HAVE_LIBVIRT ?= $(call have,libvirt libvirt-qemu libxml-2.0)
HAVE_CURL ?= $(call have,libcurl yaml-0.1)
HAVE_LIBARCHIVE ?= $(call have,libarchive)
DEFS_ALL := $(if $(call on,$(HAVE_LIBDEFLATE)),-DHAVE_LIBDEFLATE) $(if $(call on,$(HAVE_ISAL)),-DHAVE_ISAL) \
	$(if $(call on,$(HAVE_SECCOMP)),-DHAVE_SECCOMP) $(if $(call on,$(HAVE_LIBVIRT)),-DHAVE_LIBVIRT) \
	$(if $(call on,$(HAVE_CURL)),-DHAVE_CURL) $(if $(call on,$(HAVE_LIBARCHIVE)),-DHAVE_LIBARCHIVE)
LIBS := $(if $(call on,$(HAVE_LIBDEFLATE)),-ldeflate) $(if $(call on,$(HAVE_ISAL)),-lisal) \
	$(if $(call on,$(HAVE_SECCOMP)),-lseccomp) -lzstd -lz -lcrypto -ljansson
VM_LIBS := $(if $(call on,$(HAVE_LIBVIRT)),-lvirt-qemu -lvirt -lxml2)
TAR_LIBS := $(if $(call on,$(HAVE_LIBARCHIVE)),-larchive)
STORE_LIBS := $(if $(call on,$(HAVE_CURL)),-lcurl -lyaml)
# What loads many libraries is loaded itself only when it is asked for (base/module.c).
MODULES := $(strip $(if $(call on,$(HAVE_LIBVIRT)),$(B)/qsnap-libvirt.so) $(if $(call on,$(HAVE_CURL)),$(B)/qsnap-glance.so) \
	$(if $(call on,$(HAVE_LIBARCHIVE)),$(B)/qsnap-tar.so))
# The address sanitizer looks for the functions that it stands before when the program starts, so what modules need must be there then.
# driver-probe has it so; qsnap starts half as fast with it, so a sanitizer build of it that shall reach a libvirt is made with EARLY=1.
EARLY_LIBS := $(if $(SAN),-Wl$(comma)--no-as-needed $(VM_LIBS) $(STORE_LIBS) $(TAR_LIBS))
XML_FLAGS := $(shell pkg-config --cflags libxml-2.0 2>/dev/null)
$(B)/driver/libvirt_%.o $(B)/tests/unit/test_libvirt.o $(B)/tests/unit/test_libvirt_import.o: private CPPFLAGS += $(XML_FLAGS)

OPT ?= -O2 -g
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wvla -Wpointer-arith \
	-Wwrite-strings -Wundef -Wformat=2 -Wno-format-nonliteral -Wimplicit-fallthrough
CFLAGS_ALL = -std=c17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DQSNAP_VERSION='"$(VERSION)"' -I. -fPIC -fvisibility=hidden -pthread \
	$(OPT) $(WARN) $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all) $(DEFS_ALL) $(if $(CI),-Werror) $(CPPFLAGS) $(CFLAGS)
LDFLAGS_ALL = -pthread $(if $(SAN),-fsanitize=$(SAN)) $(LDFLAGS)

.PHONY: all help clean deps lint unit fuzz fuzz-corpus test test-long interop demo demo-vm bench bench-vm bench-increment bench-glance install uninstall
all: $(if $(CLI_SRC),$(B)/qsnap) $(MODULES) $(B)/libqsnap.so $(B)/libqsnap.a ## build/qsnap, build/libqsnap.so and build/libqsnap.a (the default)

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22
	@echo 'Variables: B=FOLDER (build), SAN=address,undefined|thread, CC=clang, PREFIX, DESTDIR, CI=1 (warnings are errors),'
	@echo '           HAVE_LIBDEFLATE=0, HAVE_ISAL=0, HAVE_SECCOMP=0, HAVE_LIBVIRT=0, HAVE_CURL=0,'
	@echo '           HAVE_LIBARCHIVE=0 (leave a library out)'

# What was compiled with other flags, or linked from other files, is made again.
stamp = @mkdir -p $(@D); printf '%s\n' '$(subst ','\'',$(1))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(1))' > $@
$(B)/flags.stamp: FORCE
	$(call stamp,$(CC) $(CFLAGS_ALL))
$(B)/objects.stamp: FORCE
	$(call stamp,$(LDFLAGS_ALL) $(LIBS) $(EARLY_LIBS) $(EARLY) $(LIB_SRC) $(VM_SRC) $(STORE_SRC) $(CLI_SRC) $(UNIT_SRC))
FORCE:

$(B)/%.o: %.c $(B)/flags.stamp
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# Everything, for the program and the tests; what others link against has only the names that begin with qsnap_.
$(B)/internal.a: $(LIB_OBJ) $(VM_OBJ) $(STORE_OBJ) $(B)/objects.stamp
	rm -f $@ && ar rcs $@ $(LIB_OBJ) $(VM_OBJ) $(STORE_OBJ)

$(B)/libqsnap.a: $(LIB_OBJ) $(B)/objects.stamp
	ld -r -o $(B)/libqsnap.o $(LIB_OBJ)
	objcopy --localize-hidden $(B)/libqsnap.o
	rm -f $@ && ar rcs $@ $(B)/libqsnap.o && rm -f $(B)/libqsnap.o

$(B)/libqsnap.so: $(LIB_OBJ) $(B)/objects.stamp
	$(CC) $(LDFLAGS_ALL) -shared -Wl,-soname,libqsnap.so.0 -o $@ $(LIB_OBJ) $(LIBS)

$(B)/qsnap: $(CLI_OBJ) $(B)/internal.a $(B)/objects.stamp
	$(CC) $(LDFLAGS_ALL) -o $@ $(CLI_OBJ) $(B)/internal.a $(LIBS) $(if $(EARLY),$(EARLY_LIBS))

$(B)/qsnap-libvirt.so: $(filter $(B)/driver/libvirt_%,$(VM_OBJ)) $(B)/internal.a $(B)/objects.stamp
	$(CC) $(LDFLAGS_ALL) -shared -Wl,--exclude-libs,ALL -o $@ $(filter $(B)/driver/libvirt_%,$(VM_OBJ)) $(B)/internal.a $(VM_LIBS) $(LIBS)

$(B)/qsnap-tar.so: $(filter $(B)/snapshot/tar_libarchive.o,$(VM_OBJ)) $(B)/internal.a $(B)/objects.stamp
	$(CC) $(LDFLAGS_ALL) -shared -Wl,--exclude-libs,ALL -o $@ $(filter $(B)/snapshot/tar_libarchive.o,$(VM_OBJ)) $(B)/internal.a $(TAR_LIBS) $(LIBS)

STORE_MODULE_OBJ = $(filter-out $(B)/store/store.o,$(STORE_OBJ))
$(B)/qsnap-glance.so: $(STORE_MODULE_OBJ) $(B)/internal.a $(B)/objects.stamp
	$(CC) $(LDFLAGS_ALL) -shared -Wl,--exclude-libs,ALL -o $@ $(STORE_MODULE_OBJ) $(B)/internal.a $(STORE_LIBS) $(LIBS)

# Unit tests: each tests/unit/test_NAME.c has `Suite *suite_NAME(void)`; the list is made from the file names.
UNIT_NAMES := $(patsubst tests/unit/test_%.c,%,$(filter tests/unit/test_%.c,$(UNIT_SRC)))
$(B)/unit_list.h: $(UNIT_SRC)
	@mkdir -p $(@D)
	@printf '%s\n' $(foreach n,$(UNIT_NAMES),'SUITE($(n))') > $@
$(B)/tests/unit/main.o: $(B)/unit_list.h
$(B)/tests/unit/%.o: private CPPFLAGS += -I$(B)
# tests/unit/alloc_fault.c, journal_fault.c and scripted_world.c stand before these.
UNIT_WRAPPED := mem_calloc mem_alloc_pages realloc pwrite64 fdatasync statvfs64
$(B)/unit: $(MODULES) $(UNIT_OBJ) $(B)/internal.a $(B)/objects.stamp
	$(CC) $(LDFLAGS_ALL) $(UNIT_WRAPPED:%=-Wl,--wrap=%) -o $@ $(UNIT_OBJ) $(B)/internal.a $(VM_LIBS) $(STORE_LIBS) $(TAR_LIBS) $(LIBS) $$(pkg-config --libs check)
unit: $(B)/unit ## build and run the unit tests
	$(B)/unit

# Single steps of the driver, for tests/vm.
$(B)/driver-probe: $(MODULES) $(B)/tests/vm/driver_probe.o $(B)/internal.a $(B)/objects.stamp
	$(CC) $(LDFLAGS_ALL) -o $@ $(B)/tests/vm/driver_probe.o $(B)/internal.a $(LIBS) $(EARLY_LIBS)

# Fuzz targets: tests/fuzz/fuzz_NAME.c with its corpus in tests/fuzz/corpus/NAME. fuzz-corpus runs the corpus once, without
# libFuzzer, in the sanitizer build that the other tests use; fuzz lets clang's libFuzzer look for more, FUZZ_SECONDS a target.
FUZZ_SECONDS ?= 60
FUZZ_NAMES := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_ONLY ?= $(FUZZ_NAMES)
FUZZ_OBJ := $(FUZZ_NAMES:%=$(B)/tests/fuzz/fuzz_%.o) $(B)/tests/fuzz/driver.o
$(FUZZ_NAMES:%=$(B)/fuzz-driver-%): $(B)/fuzz-driver-%: $(B)/tests/fuzz/fuzz_%.o $(B)/tests/fuzz/driver.o $(B)/internal.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)
$(FUZZ_NAMES:%=$(B)/fuzz-%): $(B)/fuzz-%: $(B)/tests/fuzz/fuzz_%.o $(B)/internal.a
	$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS)
fuzz-corpus: ## run every fuzz target over its corpus, with sanitizers
	+@$(MAKE) --no-print-directory B=build/asan SAN=address,undefined OPT="-O1 -g" \
		$(FUZZ_ONLY:%=build/asan/fuzz-driver-%)
	@set -e; for n in $(FUZZ_ONLY); do echo "fuzz corpus: $$n"; build/asan/fuzz-driver-$$n tests/fuzz/corpus/$$n; done
fuzz: ## let libFuzzer work (FUZZ_SECONDS=60 each; FUZZ_ONLY='header entry' chooses); findings in build/fuzz
	+@$(MAKE) --no-print-directory CC=clang B=build/fuzz SAN=fuzzer-no-link,address,undefined OPT="-O1 -g" \
		$(FUZZ_ONLY:%=build/fuzz/fuzz-%)
	@set -e; for n in $(FUZZ_ONLY); do mkdir -p build/fuzz/new/$$n; echo "fuzz: $$n"; \
		build/fuzz/fuzz-$$n -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 -max_len=65536 \
			-artifact_prefix=build/fuzz/$$n- build/fuzz/new/$$n tests/fuzz/corpus/$$n; done

lint: $(B)/unit_list.h ## layout, layers, references to FORMAT.md, shellcheck, cppcheck, clang-tidy (ANALYZE=1: its static analyzer too)
	@LINT_FLAGS='$(filter-out -W% -DQSNAP%,$(CFLAGS_ALL)) -I$(B) -Ilib $(XML_FLAGS)' scripts/lint $(B)
deps: ## install the Debian packages that building and testing need
	scripts/deps build
	scripts/deps test
test: deps ## install what the tests need, build, run all of them
	tests/run
test-long: deps ## the same, and the slow ones too
	tests/run --long
interop: all ## only the tests against qemu-img and qemu-io
	tests/run interop
demo: ## build, make a realistic disk, flatten it, verify it, print a table
	scripts/demo
demo-vm: ## build, boot a small guest, snapshot it while it writes, boot the copy
	scripts/demo-vm
bench: $(B)/bench-tables $(B)/bench-measure ## measure against qemu-img (BENCH='--quick' or other options of bench/run)
	bench/run $(BENCH)
bench-vm: all ## snapshots of a running guest beside virsh and qemu-img (BENCH_VM='--rounds 1' or other options of bench/run-vm)
	bench/run-vm $(BENCH_VM)
bench-increment: all ## what changed since a snapshot of 1 TiB beside a full image (BENCH_INCREMENT='--rounds 1')
	bench/run-increment $(BENCH_INCREMENT)
bench-glance: all $(B)/bench-measure ## a chain into a real Glance beside curl, and qemu-img with Glance's client (BENCH_GLANCE='--quick')
	bench/run-glance $(BENCH_GLANCE)

$(B)/bench-tables: $(B)/bench/tables.o $(B)/internal.a $(B)/objects.stamp
	$(CC) $(LDFLAGS_ALL) -o $@ $(B)/bench/tables.o $(B)/internal.a $(LIBS)
$(B)/bench-measure: $(B)/bench/measure.o $(B)/objects.stamp
	$(CC) $(LDFLAGS_ALL) -o $@ $(B)/bench/measure.o
BENCH_FILE ?=
$(B)/bench-codec: $(B)/bench/codec.o $(B)/internal.a $(B)/objects.stamp
	$(CC) $(LDFLAGS_ALL) -o $@ $(B)/bench/codec.o $(B)/internal.a $(LIBS)
bench-codec: $(B)/bench-codec ## speed and size of each compression level (BENCH_FILE='image.raw 65536 8')
	$(if $(BENCH_FILE),$(B)/bench-codec $(BENCH_FILE))

BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
MODULEDIR = $(dir $(BINDIR))libexec/qsnap
MAN1 = $(sort $(wildcard man/*.1))
MAN3 = $(sort $(wildcard man/*.3))
PRIVATE_PC := $(NEEDED) $(if $(call on,$(HAVE_LIBDEFLATE)),libdeflate) $(if $(call on,$(HAVE_ISAL)),libisal)

install: all ## install below PREFIX (/usr/local), in DESTDIR
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(DATADIR)/man/man1 \
		$(DESTDIR)$(DATADIR)/man/man3 $(DESTDIR)$(DATADIR)/bash-completion/completions
	install -m 755 $(B)/qsnap $(DESTDIR)$(BINDIR)/qsnap
	$(if $(MODULES),install -d $(DESTDIR)$(MODULEDIR) && install -m 755 $(MODULES) $(DESTDIR)$(MODULEDIR)/)
	install -m 644 $(B)/libqsnap.a $(DESTDIR)$(LIBDIR)/libqsnap.a
	install -m 755 $(B)/libqsnap.so $(DESTDIR)$(LIBDIR)/libqsnap.so.$(VERSION)
	ln -sf libqsnap.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libqsnap.so.0
	ln -sf libqsnap.so.0 $(DESTDIR)$(LIBDIR)/libqsnap.so
	$(if $(wildcard lib/qsnap.h),install -m 644 lib/qsnap.h $(DESTDIR)$(INCLUDEDIR)/qsnap.h)
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(VERSION)|' \
		-e 's|@PRIVATE@|$(PRIVATE_PC)|' lib/qsnap.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/qsnap.pc
	$(if $(MAN1),install -m 644 $(MAN1) $(DESTDIR)$(DATADIR)/man/man1/)
	$(if $(MAN3),install -m 644 $(MAN3) $(DESTDIR)$(DATADIR)/man/man3/)
	$(B)/qsnap completion bash > $(DESTDIR)$(DATADIR)/bash-completion/completions/qsnap

uninstall: ## remove what install put there
	rm -rf $(DESTDIR)$(MODULEDIR)
	rm -f $(DESTDIR)$(BINDIR)/qsnap $(DESTDIR)$(LIBDIR)/libqsnap.a $(DESTDIR)$(LIBDIR)/libqsnap.so \
		$(DESTDIR)$(LIBDIR)/libqsnap.so.0 $(DESTDIR)$(LIBDIR)/libqsnap.so.$(VERSION) $(DESTDIR)$(INCLUDEDIR)/qsnap.h \
		$(DESTDIR)$(LIBDIR)/pkgconfig/qsnap.pc $(MAN1:man/%=$(DESTDIR)$(DATADIR)/man/man1/%) \
		$(MAN3:man/%=$(DESTDIR)$(DATADIR)/man/man3/%) $(DESTDIR)$(DATADIR)/bash-completion/completions/qsnap

clean: ## remove the build folder
	rm -rf $(B)

-include $(LIB_OBJ:.o=.d) $(VM_OBJ:.o=.d) $(STORE_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(UNIT_OBJ:.o=.d) $(FUZZ_OBJ:.o=.d) $(B)/tests/vm/driver_probe.d
