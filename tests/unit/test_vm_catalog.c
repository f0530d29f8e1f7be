/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/catalog_read.c: texts that are a catalog, and those that cannot be one, each refused for what is wrong with it.
 */
#include "snapshot/internal.h"
#include "tests/unit/scripted_world.h"

#include <check.h>

Suite *suite_vm_catalog(void);

static struct error e;

#define HEAD "{\"version\": 1, \"uuid\": \"" WORLD_UUID "\""
#define DISK(target, path, size)                                                                                       \
	"{\"target\": \"" target "\", \"path\": \"" path "\", \"virtual-size\": " size                                 \
	", \"id\": \"1\", \"date\": 1, \"date-nsec\": 0}"
#define POINT(name, more, disks)                                                                                       \
	"{\"name\": \"" name "\", " more                                                                               \
	"\"created\": 1, \"mode\": \"cold\", \"via\": \"any\", \"was\": \"running\", "                                 \
	"\"disks\": [" disks "]}"
#define PLAIN(name, more) POINT(name, more, DISK("vda", "/d", "1"))
#define LIST(points) HEAD ", \"points\": [" points "]}"

static const struct {
	const char *text;
	enum err_code code; /* ERR_OK: it is good */
	const char *says;
} catalogs[] = {
	{LIST(""), ERR_OK, ""},
	{HEAD "}", ERR_OK, ""},
	{HEAD ", \"later\": {\"x\": [1]}, \"points\": [" PLAIN("a", "\"colour\": 7, ") "]}", ERR_OK, ""},
	{LIST(PLAIN("b", "\"parent\": \"a\", ") ", " PLAIN("a", "")), ERR_OK, ""},
	{"", ERR_CORRUPT, "line"},
	{"[]", ERR_CORRUPT, "not a JSON object"},
	{"{}", ERR_CORRUPT, "'version'"},
	{"{\"version\": 0, \"uuid\": \"" WORLD_UUID "\"}", ERR_CORRUPT, "'version'"},
	{"{\"version\": 2, \"uuid\": \"" WORLD_UUID "\"}", ERR_UNSUPPORTED, "version 2"},
	{"{\"version\": 1}", ERR_CORRUPT, "not of domain"},
	{"{\"version\": 1, \"uuid\": \"other\"}", ERR_CORRUPT, "not of domain"},
	{HEAD ", \"version\": 1}", ERR_CORRUPT, "duplicate"},
	{HEAD ", \"points\": 7}", ERR_CORRUPT, "no list"},
	{HEAD ", \"points\": [", ERR_CORRUPT, "line"},
	{HEAD ", \"current\": \"a\"}", ERR_CORRUPT, "current snapshot 'a' is not there"},
	{LIST("7"), ERR_CORRUPT, "snapshot 1: 'name'"},
	{LIST(PLAIN("", "")), ERR_CORRUPT, "'name'"},
	{LIST(PLAIN("a\\nb", "")), ERR_CORRUPT, "control character"},
	{LIST(PLAIN("a\\u0000b", "")), ERR_CORRUPT, "line"},
	{LIST(PLAIN("a", "") ", " PLAIN("a", "")), ERR_CORRUPT, "'a' is there twice"},
	{LIST(PLAIN("a", "\"parent\": \"b\", ")), ERR_CORRUPT, "'b', the parent of snapshot 'a', is not there"},
	{LIST(PLAIN("a", "\"parent\": \"a\", ")), ERR_CORRUPT, "its own ancestor"},
	{LIST(PLAIN("a", "\"parent\": \"b\", ") ", " PLAIN("b", "\"parent\": \"a\", ")), ERR_CORRUPT,
		"its own ancestor"},
	{LIST(PLAIN("a", "\"parent\": 7, ")), ERR_CORRUPT, "'parent' is no text"},
	{LIST(PLAIN("a", "\"xml\": [], ")), ERR_CORRUPT, "'xml'"},
	{LIST(PLAIN("a", "\"exports\": {}, ")), ERR_CORRUPT, "'exports' is no list"},
	{LIST(PLAIN("a", "\"exports\": [{}], ")), ERR_CORRUPT, "export 1: 'when'"},
	{LIST(PLAIN("a", "\"exports\": [{\"when\": 1, \"target\": \"a\", \"to\": \"b\", \"bytes\": 1, \"sha256\": "
			 "\"xyz\"}], ")),
		ERR_CORRUPT, "no digest"},
	{LIST(POINT("a", "", "")), ERR_CORRUPT, "no disks"},
	{LIST(POINT("a", "", DISK("vda", "d", "1"))), ERR_CORRUPT, "'path' is not absolute"},
	{LIST(POINT("a", "", DISK("vda", "/d", "-1"))), ERR_CORRUPT, "'virtual-size'"},
	{LIST(POINT("a", "", DISK("vda", "/d", "1.5"))), ERR_CORRUPT, "'virtual-size'"},
	{LIST(POINT("a", "", DISK("vda", "/d", "99999999999999999999"))), ERR_CORRUPT, "line"},
	{LIST(POINT("a", "", DISK("vda", "/d", "1") ", " DISK("vda", "/d", "1"))), ERR_CORRUPT, "vda is there twice"},
};

START_TEST(test_text)
{
	struct vm_catalog c;
	int failed = catalog_parse(catalogs[_i].text, strlen(catalogs[_i].text), WORLD_UUID, &c, &e);

	if (!failed)
		vm_catalog_free(&c);
	ck_assert_msg(!failed == (catalogs[_i].code == ERR_OK), "%s: %s", catalogs[_i].text, failed ? e.msg : "good");
	if (failed) {
		ck_assert_int_eq(e.code, catalogs[_i].code);
		ck_assert_msg(strstr(e.msg, catalogs[_i].says) != NULL, "'%s' is not '%s'", e.msg, catalogs[_i].says);
	}
}
END_TEST

/* A name that is too long, and more text than there may be. */
START_TEST(test_too_much)
{
	enum { NAME = 300, BYTES = (64 << 20) + 1 };
	char name[NAME + 1] = "", *text = malloc(BYTES);
	struct vm_catalog c;

	memset(name, 'n', NAME);
	int len = snprintf(text, BYTES, LIST(PLAIN("%s", "")), name);

	ck_assert_int_eq(catalog_parse(text, (size_t)len, WORLD_UUID, &c, &e), -1);
	ck_assert_int_eq(e.code, ERR_CORRUPT);
	memset(text, ' ', BYTES);
	ck_assert_int_eq(catalog_parse(text, BYTES, WORLD_UUID, &c, &e), -1);
	ck_assert_int_eq(e.code, ERR_LIMIT);
	free(text);
}
END_TEST

Suite *suite_vm_catalog(void)
{
	Suite *s = suite_create("vm_catalog");
	TCase *t = tcase_create("catalog");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, test_text, 0, (int)(sizeof catalogs / sizeof *catalogs));
	tcase_add_test(t, test_too_much);
	suite_add_tcase(s, t);
	return s;
}
