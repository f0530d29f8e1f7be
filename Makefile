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
UNIT_SRC := $(sort $(wildcard tests/unit/*.c))

LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)
UNIT_OBJ := $(UNIT_SRC:%.c=$(B)/%.o)

OPT ?= -O2 -g
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wvla -Wpointer-arith \
	-Wwrite-strings -Wundef -Wformat=2 -Wno-format-nonliteral -Wimplicit-fallthrough
CFLAGS_ALL = -std=c17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DQSNAP_VERSION='"$(VERSION)"' -I. -fPIC -fvisibility=hidden -pthread \
	$(OPT) $(WARN) $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all) $(DEFS_ALL) $(if $(CI),-Werror) $(CPPFLAGS) $(CFLAGS)
# Faster deflate than zlib's, each optional: `make HAVE_LIBDEFLATE= HAVE_ISAL=` builds without.
HAVE_LIBDEFLATE ?= $(shell pkg-config --exists libdeflate && echo 1)
HAVE_ISAL ?= $(shell pkg-config --exists libisal && echo 1)
DEFS_ALL := $(if $(HAVE_LIBDEFLATE),-DHAVE_LIBDEFLATE) $(if $(HAVE_ISAL),-DHAVE_ISAL)
LIBS := $(if $(HAVE_LIBDEFLATE),-ldeflate) $(if $(HAVE_ISAL),-lisal) -lzstd -lz -lcrypto -ljansson
LDFLAGS_ALL = -pthread $(if $(SAN),-fsanitize=$(SAN)) $(LDFLAGS)

.PHONY: all clean unit
all: $(B)/qsnap $(B)/libqsnap.so $(B)/libqsnap.a

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(B)/libqsnap.a: $(LIB_OBJ)
	rm -f $@ && ar rcs $@ $^

$(B)/libqsnap.so: $(LIB_OBJ)
	$(CC) $(LDFLAGS_ALL) -shared -Wl,-soname,libqsnap.so.0 -o $@ $^ $(LIBS)

$(B)/qsnap: $(CLI_OBJ) $(B)/libqsnap.a
	$(CC) $(LDFLAGS_ALL) -o $@ $(CLI_OBJ) $(B)/libqsnap.a $(LIBS)

# Unit tests: each tests/unit/test_NAME.c has `Suite *suite_NAME(void)`; the list is made from the file names.
UNIT_NAMES := $(patsubst tests/unit/test_%.c,%,$(filter tests/unit/test_%.c,$(UNIT_SRC)))
$(B)/unit_list.h: $(UNIT_SRC)
	@mkdir -p $(@D)
	@printf '%s\n' $(foreach n,$(UNIT_NAMES),'SUITE($(n))') > $@
$(B)/tests/unit/main.o: $(B)/unit_list.h
$(B)/tests/unit/%.o: CPPFLAGS += -I$(B)
$(B)/unit: $(UNIT_OBJ) $(B)/libqsnap.a
	$(CC) $(LDFLAGS_ALL) -o $@ $(UNIT_OBJ) $(B)/libqsnap.a $(LIBS) $$(pkg-config --libs check)
unit: $(B)/unit
	$(B)/unit

clean:
	rm -rf $(B)

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(UNIT_OBJ:.o=.d)
