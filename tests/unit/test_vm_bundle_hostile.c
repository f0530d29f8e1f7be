/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/bundle_manifest.c, bundle_source.c: manifests that cannot be one, each refused for what is wrong with it; bundles that
 * somebody changed, of which nothing is kept.
 */
#include "snapshot/bundle.h"
#include "tests/unit/bundle_cases.h"
#include "tests/unit/scratch.h"
#include "tests/unit/vm_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

Suite *suite_vm_bundle_hostile(void);

/* ---- manifests ---- */

#define D "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEAD                                                                                                           \
	"{\"bundle\": \"qsnap\", \"version\": 1, \"domain\": \"web\", \"uuid\": \"" WORLD_UUID "\", \"snapshot\": "    \
	"\"a\""
#define FILES(list) ", \"files\": [" list "]}"
#define F(name) "{\"name\": \"" name "\", \"bytes\": 1, \"sha256\": \"" D "\"}"
#define DISK(target, file, more)                                                                                       \
	"{\"target\": \"" target "\", \"virtual-size\": 512, \"date\": 1, \"date-nsec\": 0, \"file\": \"" file         \
	"\"" more "}"
#define POINT(name, more, xml, disks)                                                                                  \
	"{\"name\": \"" name "\", " more                                                                               \
	"\"created\": 1, \"mode\": \"cold\", \"via\": \"any\", \"was\": \"running\", "                                 \
	"\"definition\": \"" xml "\", \"disks\": [" disks "]}"
#define POINTS(list) ", \"points\": [" list "]"
#define ONE POINTS(POINT("a", "", "x", DISK("vda", "i", "")))
#define BOTH F("x") ", " F("i")
#define CHILD(more) POINT("b", "\"parent\": \"a\", ", "y", DISK("vda", "j", more))

static const struct {
	const char *text;
	enum err_code code; /* ERR_OK: it is good */
	const char *says;
} manifests[] = {
	{HEAD ONE FILES(BOTH), ERR_OK, ""},
	{HEAD ", \"later\": [1]" ONE FILES(BOTH), ERR_OK, ""},
	{HEAD POINTS(POINT("a", "\"memory\": \"m\", \"nvram\": \"n\", ", "x", DISK("vda", "i", "")))
			FILES(BOTH ", " F("m") ", " F("n")),
		ERR_OK, ""},
	{HEAD POINTS(CHILD(", \"since\": \"a\"") ", " POINT("a", "", "x", DISK("vda", "i", "")))
			FILES(BOTH ", " F("y") ", " F("j")),
		ERR_OK, ""},
	{"", ERR_CORRUPT, "line"},
	{"[]", ERR_CORRUPT, "not the manifest"},
	{"{\"bundle\": \"other\", \"version\": 1}", ERR_CORRUPT, "not the manifest"},
	{"{\"bundle\": \"qsnap\", \"version\": 2}", ERR_UNSUPPORTED, "version 2"},
	{"{\"bundle\": \"qsnap\", \"version\": 1, \"domain\": \"a/b\", \"uuid\": \"" WORLD_UUID
	 "\", \"snapshot\": \"a\"}",
		ERR_CORRUPT, "no name for a domain"},
	{"{\"bundle\": \"qsnap\", \"version\": 1, \"domain\": \"..\", \"uuid\": \"" WORLD_UUID
	 "\", \"snapshot\": \"a\"}",
		ERR_CORRUPT, "no name for a domain"},
	{"{\"bundle\": \"qsnap\", \"version\": 1, \"domain\": \"a\", \"uuid\": \"../../x\", \"snapshot\": \"a\"}",
		ERR_CORRUPT, "'uuid'"},
	{HEAD ", \"version\": 1" ONE FILES(BOTH), ERR_CORRUPT, "duplicate"},
	{HEAD FILES(BOTH), ERR_CORRUPT, "no snapshots"},
	{HEAD POINTS("") FILES(""), ERR_CORRUPT, "no snapshots"},
	{HEAD ONE FILES(F("x")), ERR_CORRUPT, "no file i is listed"},
	{HEAD ONE FILES(BOTH ", " F("z")), ERR_CORRUPT, "z belongs to nothing"},
	{HEAD ONE FILES(BOTH ", " F("x")), ERR_CORRUPT, "x is there twice"},
	{HEAD ONE FILES(BOTH ", " F("manifest.json")), ERR_CORRUPT, "no name for a file"},
	{HEAD ONE FILES(BOTH ", " F("../x")), ERR_CORRUPT, "no name for a file"},
	{HEAD ONE FILES(BOTH ", " F("/etc/x")), ERR_CORRUPT, "no name for a file"},
	{HEAD ONE FILES(BOTH ", " F("a/b")), ERR_CORRUPT, "no name for a file"},
	{HEAD ONE FILES(BOTH ", " F(".x")), ERR_CORRUPT, "no name for a file"},
	{HEAD ONE FILES(BOTH ", " F("-x")), ERR_CORRUPT, "no name for a file"},
	{HEAD ONE FILES(BOTH ", " F("a b")), ERR_CORRUPT, "no name for a file"},
	{HEAD ONE FILES(BOTH ", " F("a\\nb")), ERR_CORRUPT, "control character"},
	{HEAD ONE FILES(BOTH ", {\"name\": \"z\", \"bytes\": -1, \"sha256\": \"" D "\"}"), ERR_CORRUPT, "'bytes'"},
	{HEAD ONE FILES(BOTH ", {\"name\": \"z\", \"bytes\": 1, \"sha256\": \"12\"}"), ERR_CORRUPT, "no digest"},
	{HEAD ONE FILES(BOTH ", {\"name\": \"z\", \"bytes\": 1}"), ERR_CORRUPT, "no digest"},
	{HEAD POINTS(POINT("a", "", "x", DISK("vda", "x", ""))) FILES(BOTH), ERR_CORRUPT, "something else already"},
	{HEAD POINTS(POINT("a", "", "x", "")) FILES(BOTH), ERR_CORRUPT, "no disks"},
	{HEAD POINTS(POINT("a/b", "", "x", DISK("vda", "i", ""))) FILES(BOTH), ERR_USAGE, "snapshot's name"},
	{HEAD POINTS(POINT("b", "", "x", DISK("vda", "i", ""))) FILES(BOTH), ERR_CORRUPT, "'a' is not there"},
	{HEAD POINTS(POINT("a", "", "x", DISK("../v", "i", ""))) FILES(BOTH), ERR_CORRUPT, "no target"},
	{HEAD POINTS(POINT("a", "", "x", DISK("vda", "i", "") ", " DISK("vda", "j", ""))) FILES(BOTH ", " F("j")),
		ERR_CORRUPT, "vda is there twice"},
	{HEAD POINTS(POINT("a", "\"parent\": \"a\", ", "x", DISK("vda", "i", ""))) FILES(BOTH), ERR_CORRUPT,
		"ancestor"},
	{HEAD POINTS(POINT("a", "", "x", DISK("vda", "i", ", \"since\": \"a\""))) FILES(BOTH), ERR_CORRUPT,
		"not the one before"},
	{HEAD POINTS(POINT("a", "", "x", DISK("vdb", "i", "")) ", " CHILD(", \"since\": \"a\""))
			FILES(BOTH ", " F("y") ", " F("j")),
		ERR_CORRUPT, "not the one before"},
	{HEAD POINTS("7") FILES(BOTH), ERR_CORRUPT, "snapshot 1: 'name'"},
};

START_TEST(test_manifest)
{
	struct bundle b;
	int failed = bundle_parse(manifests[_i].text, strlen(manifests[_i].text), &b, &e);

	if (!failed)
		bundle_free(&b);
	ck_assert_msg(!failed == (manifests[_i].code == ERR_OK), "%s: %s", manifests[_i].text, failed ? e.msg : "good");
	if (failed) {
		ck_assert_msg(e.code == manifests[_i].code, "%s: code %d", e.msg, e.code);
		ck_assert_msg(strstr(e.msg, manifests[_i].says) != NULL, "'%s' is not '%s'", e.msg, manifests[_i].says);
	}
}
END_TEST

/* Cut off anywhere, or with any byte another one: an error, or the same kind of thing. */
START_TEST(test_bytes)
{
	const char *good = manifests[3].text;
	size_t len = strlen(good);
	AUTO_FREE char *text = strdup(good);

	for (size_t i = 0; i < len; i++) {
		struct bundle b;

		ck_assert_int_eq(bundle_parse(text, i, &b, &e), -1);
		for (unsigned c = 0; c < 256; c += 51) {
			text[i] = (char)c;
			if (!bundle_parse(text, len, &b, &e))
				bundle_free(&b);
		}
		text[i] = good[i];
	}
}
END_TEST

/* ---- bundles ---- */

static void enter(void)
{
	bundle_tree(w);
	ck_assert_int_eq(mkdir("out", 0700), 0);
	ck_assert_msg(!bundle_export(w, "out/bundle", true, &e), "%s", e.msg);
#ifdef HAVE_LIBARCHIVE
	ck_assert_msg(!bundle_export(w, "out/bundle.tar", true, &e), "%s", e.msg);
#endif
	bundle_nothing_there(w);
}

#define IMAGE "out/bundle/p0-vda.qcow2"

static void change_byte(void)
{
	FILE *f = fopen(IMAGE, "r+");

	ck_assert(f && !fseek(f, -1, SEEK_END));
	int c = fgetc(f);

	ck_assert(!fseek(f, -1, SEEK_END) && fputc(c ^ 1, f) >= 0 && !fclose(f));
}

static void cut_off(void)
{
	ck_assert_int_eq(truncate(IMAGE, 5000), 0);
}

static void take_away(void)
{
	ck_assert_int_eq(unlink(IMAGE), 0);
}

static void link_elsewhere(void)
{
	ck_assert(!rename(IMAGE, "elsewhere") && !symlink("../../elsewhere", IMAGE));
}

static void link_manifest(void)
{
	ck_assert(!rename("out/bundle/manifest.json", "elsewhere") &&
		  !symlink("../../elsewhere", "out/bundle/manifest.json"));
}

static void put_more(void)
{
	scratch_file("out/bundle/more", "x", 1);
}

static void make_folder(void)
{
	ck_assert(!unlink(IMAGE) && !mkdir(IMAGE, 0700));
}

static void make_pipe(void)
{
	ck_assert(!unlink(IMAGE) && !mkfifo(IMAGE, 0700));
}

static void no_manifest(void)
{
	ck_assert_int_eq(unlink("out/bundle/manifest.json"), 0);
}

static const struct {
	void (*change)(void);
	const char *says;
} changes[] = {
	{change_byte, "has not the digest"},
	{cut_off, "5000 bytes"},
	{take_away, "No such file"},
	{link_elsewhere, ""},
	{link_manifest, ""},
	{put_more, "'more' is not in the manifest"},
	{make_folder, ""},
	{make_pipe, ""},
	{no_manifest, "No such file"},
};

START_TEST(test_changed)
{
	bool left;

	changes[_i].change();
	ck_assert_int_eq(bundle_import(w, "out/bundle", NULL, &left, &e), -1);
	ck_assert_msg(strstr(e.msg, changes[_i].says) != NULL, "'%s' is not '%s'", e.msg, changes[_i].says);
	ck_assert(!left && w->undefined && !bundle_names("in") && bundle_names("state") <= 1);
}
END_TEST

/* What is in the way is refused before anything is made, and is what it was. */
START_TEST(test_in_the_way)
{
	bool left;

	scratch_file("in/machine-vdb.qcow2", "x", 1);
	ck_assert_int_eq(bundle_import(w, "out/bundle", NULL, &left, &e), -1);
	ck_assert_int_eq(e.code, ERR_USAGE);
	ck_assert_msg(strstr(e.msg, "machine-vdb.qcow2 exists already") != NULL, "%s", e.msg);
	ck_assert(!left && bundle_names("in") == 1 && w->undefined);
	ck_assert_int_eq(bundle_import(w, "out/bundle", "../x", &left, &e), -1);
	ck_assert_int_eq(e.code, ERR_USAGE);
	ck_assert_msg(!bundle_import(w, "out/bundle", "other", &left, &e), "%s", e.msg);
}
END_TEST

/* Too little space is told before anything is made; a stream is unpacked first, and takes more. */
START_TEST(test_no_room)
{
	const uint64_t block = 4096, most = 64 << 20;
	const char *from = _i ? "out/bundle.tar" : "out/bundle";
	bool left;

#ifndef HAVE_LIBARCHIVE
	if (_i)
		return;
#endif
	for (w->free_bytes = block; bundle_import(w, from, NULL, &left, &e); w->free_bytes += block) {
		ck_assert_int_eq(e.code, ERR_LIMIT);
		ck_assert_msg(strstr(e.msg, "are free") != NULL, "%s", e.msg);
		ck_assert(!left && w->undefined && !bundle_names("in") && bundle_names("state") <= 1);
		ck_assert_uint_lt(w->free_bytes, most);
	}
	ck_assert_uint_gt(w->free_bytes, 3 * WORLD_BYTES); /* of memory alone */
	ck_assert(!w->undefined);
}
END_TEST

Suite *suite_vm_bundle_hostile(void)
{
	Suite *s = suite_create("vm_bundle_hostile");
	TCase *t = tcase_create("manifests"), *b = tcase_create("bundles");

	tcase_add_loop_test(t, test_manifest, 0, (int)(sizeof manifests / sizeof *manifests));
	tcase_add_test(t, test_bytes);
	suite_add_tcase(s, t);
	vm_fixture(b, 0);
	tcase_add_checked_fixture(b, enter, NULL);
	tcase_add_loop_test(b, test_changed, 0, (int)(sizeof changes / sizeof *changes));
	tcase_add_test(b, test_in_the_way);
	tcase_add_loop_test(b, test_no_room, 0, 2);
	suite_add_tcase(s, b);
	return s;
}
