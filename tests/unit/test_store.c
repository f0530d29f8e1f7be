/* SPDX-License-Identifier: Apache-2.0
 *
 * store/ as far as it needs no service: where a cloud is found, what a catalog and a record say, which answers are what errors, and
 * when the store has something else than was sent. Without libcurl: that the build says so.
 */
#include "store/store.h"

#include "tests/unit/scratch.h"

#include <check.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct error e;

#ifdef HAVE_CURL
#include "store/internal.h"

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, e.msg)
#define FAILS(call, want)                                                                                              \
	do {                                                                                                           \
		ck_assert_int_eq(call, -1);                                                                            \
		ck_assert_msg(e.code == (want), "%s: %d, %s", #call, (int)e.code, e.msg);                              \
	} while (0)
#define HAS(text) ck_assert_msg(strstr(e.msg, text) != NULL, "'%s' is not in: %s", text, e.msg)

/* ---- the cloud ---- */

static struct cloud cloud;

static void enter(void)
{
	extern char **environ;
	for (char **v = environ; *v;) {
		char name[128];
		snprintf(name, sizeof name, "%.*s", (int)strcspn(*v, "="), *v);
		if (strncmp(name, "OS_", 3) == 0)
			unsetenv(name), v = environ;
		else
			v++;
	}
	ck_assert(scratch_enter(SCRATCH_DISK));
	unsetenv("XDG_CONFIG_HOME");
	setenv("HOME", ".", 1);
}

static void leave(void)
{
	cloud_free(&cloud);
	scratch_leave();
}

static void write_text(const char *name, const char *text)
{
	scratch_file(name, text, strlen(text));
}

#define IS(key, text) ck_assert_pstr_eq(cloud.values[key], text)

static const char clouds[] =
	"anchors:\n  shared: &shared {region_name: Two, interface: internal}\n"
	"clouds:\n"
	"  one:\n    <<: *shared\n    auth: {auth_url: 'http://k/v3', username: u, password: secret,\n"
	"      project_name: p, user_domain_name: d}\n    verify: false\n    cacert: ca.pem\n"
	"  two:\n    auth_type: v3applicationcredential\n"
	"    auth: {auth_url: 'http://k', application_credential_id: i, application_credential_secret: s}\n"
	"  open: {auth_type: none, endpoint: 'http://g'}\n"
	"  odd: {auth_type: v3oidcpassword, auth: {auth_url: x}}\n"
	"  half: {auth: {auth_url: x, username: u}}\n";

START_TEST(cloud_of_a_file)
{
	write_text("clouds.yaml", clouds);
	OK(cloud_read(&cloud, "one", &e));
	ck_assert_int_eq(cloud.auth, CLOUD_PASSWORD);
	ck_assert(cloud.insecure);
	IS(CLOUD_AUTH_URL, "http://k/v3");
	IS(CLOUD_SECRET_PASSWORD, "secret");
	IS(CLOUD_USER_DOMAIN_NAME, "d");
	IS(CLOUD_REGION, "Two");
	IS(CLOUD_INTERFACE, "internal");
	IS(CLOUD_CACERT, "ca.pem");
	IS(CLOUD_PROJECT_ID, NULL);
	cloud_free(&cloud);
	setenv("OS_CLOUD", "two", 1);
	OK(cloud_read(&cloud, NULL, &e));
	ck_assert_int_eq(cloud.auth, CLOUD_APPLICATION_CREDENTIAL);
	ck_assert(!cloud.insecure);
	cloud_free(&cloud);
	OK(cloud_read(&cloud, "open", &e));
	ck_assert_int_eq(cloud.auth, CLOUD_NONE);
	IS(CLOUD_ENDPOINT, "http://g");
}
END_TEST

START_TEST(variables_go_first_then_secure)
{
	write_text("clouds.yaml", clouds);
	write_text("secure.yaml", "clouds: {half: {auth: {password: hidden}}, one: {auth: {password: other}}}\n");
	OK(cloud_read(&cloud, "half", &e));
	IS(CLOUD_SECRET_PASSWORD, "hidden");
	cloud_free(&cloud);
	setenv("OS_REGION_NAME", "Three", 1);
	OK(cloud_read(&cloud, "one", &e));
	IS(CLOUD_SECRET_PASSWORD, "other");
	IS(CLOUD_REGION, "Three");
	cloud_free(&cloud);
	setenv("OS_PASSWORD", "typed", 1);
	setenv("OS_PROJECT_NAME", "", 1); /* empty is as if it were not there */
	OK(cloud_read(&cloud, "one", &e));
	IS(CLOUD_SECRET_PASSWORD, "typed");
	IS(CLOUD_PROJECT_NAME, "p");
}
END_TEST

START_TEST(places_of_files)
{
	ck_assert_int_eq(mkdir(".config", 0700) | mkdir(".config/openstack", 0700) | mkdir("x", 0700) |
				 mkdir("x/openstack", 0700),
		0);
	write_text(".config/openstack/clouds.yaml", "clouds: {c: {auth_type: none, endpoint: home}}\n");
	OK(cloud_read(&cloud, NULL, &e)); /* the only one */
	IS(CLOUD_ENDPOINT, "home");
	cloud_free(&cloud);
	write_text("x/openstack/clouds.yaml", "clouds: {c: {auth_type: none, endpoint: xdg}}\n");
	setenv("XDG_CONFIG_HOME", "x", 1);
	OK(cloud_read(&cloud, "c", &e));
	IS(CLOUD_ENDPOINT, "xdg");
	cloud_free(&cloud);
	write_text("clouds.yaml", "clouds: {c: {auth_type: none, endpoint: here}}\n");
	OK(cloud_read(&cloud, "c", &e));
	IS(CLOUD_ENDPOINT, "here");
	cloud_free(&cloud);
	write_text("named", "clouds: {c: {auth_type: none, endpoint: named}}\n");
	setenv("OS_CLIENT_CONFIG_FILE", "named", 1);
	OK(cloud_read(&cloud, "c", &e));
	IS(CLOUD_ENDPOINT, "named");
}
END_TEST

START_TEST(clouds_that_cannot_be_used)
{
	FAILS(cloud_read(&cloud, "one", &e), ERR_NOT_FOUND);
	HAS("no clouds.yaml");
	FAILS(cloud_read(&cloud, NULL, &e), ERR_USAGE);
	HAS("auth_url");
	write_text("clouds.yaml", clouds);
	FAILS(cloud_read(&cloud, "three", &e), ERR_NOT_FOUND);
	FAILS(cloud_read(&cloud, "odd", &e), ERR_UNSUPPORTED);
	HAS("v3oidcpassword");
	FAILS(cloud_read(&cloud, "half", &e), ERR_USAGE);
	HAS("password");
	write_text("clouds.yaml", "clouds: {one: {auth: {password: hunter2\n  ] : }\n");
	FAILS(cloud_read(&cloud, "one", &e), ERR_USAGE);
	HAS("clouds.yaml: line 2");
	ck_assert_ptr_null(strstr(e.msg, "hunter2"));
	write_text("clouds.yaml", "clouds: &a {<<: *a, one: {<<: [*a, *a]}}\n"); /* merged into itself */
	FAILS(cloud_read(&cloud, "one", &e), ERR_USAGE);
	static char large[(1 << 20) + 2];
	memset(large, '#', sizeof large - 1);
	write_text("clouds.yaml", large);
	FAILS(cloud_read(&cloud, "one", &e), ERR_LIMIT);
}
END_TEST

/* ---- the catalog ---- */

#define AT(iface, region, url) "{\"interface\":\"" iface "\",\"region_id\":\"" region "\",\"url\":\"" url "\"}"
static const struct {
	const char *catalog, *region, *interface, *url;
	enum err_code code;
} catalogs[] = {
	{"[{\"type\":\"identity\",\"endpoints\":[" AT("public", "R",
		 "http://k") "]},"
			     "{\"type\":\"image\",\"endpoints\":[" AT("public", "R", "http://g/") "]}]",
		NULL, NULL, "http://g", 0},
	{"[{\"type\":\"image\",\"endpoints\":[" AT("internal", "R", "http://i") "," AT("public", "R",
		 "http://g/v2/") "]}]",
		"R", NULL, "http://g", 0},
	{"[{\"type\":\"image\",\"endpoints\":[" AT("internal", "R", "http://i") "," AT("public", "R", "http://g") "]}]",
		"R", "internal", "http://i", 0},
	{"[{\"type\":\"image\",\"endpoints\":[" AT("internal", "R", "http://i") "," AT("public", "R", "http://g") "]}]",
		"R", "internalURL", "http://i", 0},
	{"[{\"type\":\"image\",\"endpoints\":[" AT("public", "R1", "http://1") "," AT("public", "R2", "http://2") "]}]",
		"R2", NULL, "http://2", 0},
	{"[{\"type\":\"image\",\"endpoints\":[" AT("public", "R1", "http://1") "," AT("public", "R2", "http://2") "]}]",
		NULL, NULL, NULL, ERR_USAGE},
	{"[{\"type\":\"image\",\"endpoints\":[" AT("public", "R1", "http://1") "]}]", "R2", NULL, NULL, ERR_NOT_FOUND},
	{"[{\"type\":\"image\",\"endpoints\":[" AT("public", "R1", "http://1") "]}]", NULL, "admin", NULL,
		ERR_NOT_FOUND},
	{"[{\"type\":\"image\",\"endpoints\":[{\"interface\":\"public\"}, 7, null]}, 7]", NULL, NULL, NULL,
		ERR_NOT_FOUND},
	{"[{\"type\":\"image\",\"endpoints\":[{\"interface\":\"public\",\"url\":7}]}]", NULL, NULL, NULL,
		ERR_NOT_FOUND},
	{"[]", NULL, NULL, NULL, ERR_USAGE},
	{"7", NULL, NULL, NULL, ERR_USAGE},
};

START_TEST(catalog_cases)
{
	json_t *j = json_loads(catalogs[_i].catalog, JSON_DECODE_ANY, NULL);
	ck_assert_ptr_nonnull(j);
	AUTO_FREE char *url = catalog_image_url(j, catalogs[_i].region, catalogs[_i].interface, &e);
	ck_assert_pstr_eq(url, catalogs[_i].url);
	if (!url)
		ck_assert_int_eq(e.code, catalogs[_i].code);
	json_decref(j);
}
END_TEST

START_TEST(times)
{
	ck_assert_int_eq(time_parse("2026-11-23T01:52:38.000000Z"), 1795398758);
	ck_assert_int_eq(time_parse("1970-01-01T00:00:01Z"), 1);
	ck_assert_int_eq(time_parse("tomorrow"), 0);
	ck_assert_int_eq(time_parse("2026-11-23T01:52:38+02:00"), 0);
	ck_assert_int_eq(time_parse(NULL), 0);
}
END_TEST

/* ---- records ---- */

START_TEST(record_of_an_answer)
{
	struct store_image i;
	struct http_answer a = {
		.body = (char *)"{\"id\":\"I\",\"status\":\"active\",\"size\":5,\"virtual_size\":null,"
				"\"name\":null,\"disk_format\":\"raw\",\"min_disk\":3,\"min_ram\":-1,"
				"\"qsnap_disk\":\"vda\",\"os_hidden\":true,\"tags\":[],\"empty\":\"\"}"};
	a.body_len = strlen(a.body);
	OK(record_parse(&a, &i, &e));
	ck_assert_str_eq(i.id, "I");
	ck_assert_ptr_null(i.name);
	ck_assert(i.has_size && i.size == 5 && !i.has_virtual_size && i.min_disk == 3 && i.min_ram == 0 && i.hidden);
	ck_assert_uint_eq(i.property_count, 2);
	ck_assert_str_eq(store_image_property(&i, "qsnap_disk"), "vda");
	ck_assert_str_eq(store_image_property(&i, "empty"), "");
	ck_assert_ptr_null(store_image_property(&i, "id"));
	ck_assert_ptr_null(store_image_property(&i, "os_hidden"));
	store_image_free(&i);
	static const char *const wrong[] = {
		"", "[]", "{\"id\":7,\"status\":\"x\"}", "{\"id\":\"x\"}", "{\"id\":\"x\"", "<html>"};
	for (unsigned w = 0; w < sizeof wrong / sizeof *wrong; w++) {
		a.body = (char *)wrong[w];
		a.body_len = strlen(a.body);
		FAILS(record_parse(&a, &i, &e), ERR_CORRUPT);
	}
}
END_TEST

static struct store_property properties[] = {{(char *)"os_type", (char *)"li\"nux"}, {(char *)"a/b~c", (char *)""}};

START_TEST(record_as_bodies)
{
	struct store_record r = {.name = "n\303\244me",
		.format = "qcow2",
		.has_min_disk = true,
		.min_disk = 7,
		.properties = properties,
		.property_count = 2};
	AUTO_FREE char *body = record_new(&r, "ID", &e), *patch = record_patch(&r, &e);
	json_t *new = json_loads(body, 0, NULL), *list = json_loads(patch, 0, NULL), *op;
	ck_assert_str_eq(json_string_value(json_object_get(new, "id")), "ID");
	ck_assert_str_eq(json_string_value(json_object_get(new, "visibility")), "private");
	ck_assert_str_eq(json_string_value(json_object_get(new, "os_type")), "li\"nux");
	ck_assert_int_eq(json_integer_value(json_object_get(new, "min_disk")), 7);
	ck_assert_ptr_null(json_object_get(new, "min_ram"));
	ck_assert_ptr_null(json_object_get(new, "os_hidden"));
	/* the same but for the id, and for the visibility, which stays as it is */
	ck_assert_uint_eq(json_array_size(list), json_object_size(new) - 2);
	bool escaped = false;
	size_t i;
	json_array_foreach(list, i, op)
	{
		ck_assert_str_eq(json_string_value(json_object_get(op, "op")), "add");
		escaped |= strcmp(json_string_value(json_object_get(op, "path")), "/a~1b~0c") == 0;
	}
	ck_assert(escaped);
	json_decref(new);
	json_decref(list);
	r.hidden = true;
	AUTO_FREE char *hidden = record_new(&r, "ID", &e);
	new = json_loads(hidden, 0, NULL);
	ck_assert(json_is_true(json_object_get(new, "os_hidden")));
	json_decref(new);
	r.name = "\377";
	ck_assert_ptr_null(record_new(&r, "ID", &e));
	ck_assert_ptr_null(record_patch(&r, &e));
	r.name = "n";
	properties[1].value = (char *)"\377";
	ck_assert_ptr_null(record_patch(&r, &e));
	ck_assert_int_eq(e.code, ERR_USAGE);
}
END_TEST

/* ---- answers, and what was sent ---- */

static const struct {
	unsigned status;
	enum err_code code;
} answers[] = {{400, ERR_USAGE}, {401, ERR_DENIED}, {403, ERR_DENIED}, {404, ERR_NOT_FOUND}, {409, ERR_BUSY},
	{410, ERR_NOT_FOUND}, {413, ERR_LIMIT}, {415, ERR_UNSUPPORTED}, {429, ERR_PASSING}, {500, ERR_PASSING},
	{502, ERR_PASSING}, {503, ERR_PASSING}, {504, ERR_PASSING}, {302, ERR_UNSUPPORTED}, {418, ERR_UNSUPPORTED}};

START_TEST(answers_as_errors)
{
	const struct http_answer a = {.status = answers[_i].status, .request_id = "req-7"};
	char status[16];
	FAILS(answer_error(&a, "POST x", &e), answers[_i].code);
	HAS("POST x");
	HAS("req-7");
	snprintf(status, sizeof status, "HTTP %u", a.status);
	HAS(status);
}
END_TEST

static struct store_image arrived;
static const struct sent qcow2_sent = {.bytes = 10,
	.virtual_size = 512,
	.md5 = "0a",
	.sha512 = "0b",
	.format = "qcow2"};

static void as_sent(void)
{
	arrived = (struct store_image){.id = (char *)"I",
		.status = (char *)"active",
		.format = (char *)"qcow2",
		.checksum = (char *)"0A",
		.hash_algorithm = (char *)"sha512",
		.hash = (char *)"0B",
		.has_size = true,
		.has_virtual_size = true,
		.size = 10,
		.virtual_size = 512};
}

START_TEST(what_arrived)
{
	bool other;
	as_sent();
	OK(sent_compare(&qcow2_sent, &arrived, &other, &e));
	ck_assert(!other);
#define BUT(change)                                                                                                    \
	as_sent();                                                                                                     \
	change;                                                                                                        \
	FAILS(sent_compare(&qcow2_sent, &arrived, &other, &e), ERR_CHANGED)
	BUT(arrived.status = (char *)"queued");
	BUT(arrived.size = 11);
	BUT(arrived.has_size = false);
	BUT(arrived.virtual_size = 1024);
	BUT(arrived.has_virtual_size = false);
	BUT(arrived.checksum = (char *)"0c");
	BUT(arrived.hash = (char *)"0c");
	BUT((arrived.hash = NULL, arrived.checksum = NULL));
	as_sent();
	arrived.checksum = NULL; /* newer services give none */
	OK(sent_compare(&qcow2_sent, &arrived, &other, &e));
	arrived.hash_algorithm = (char *)"sha256";
	OK(sent_compare(&qcow2_sent, &arrived, &other, &e));
	ck_assert(other);
	/* an older service says nothing of a raw disk's size */
	struct sent raw = qcow2_sent;
	raw.format = "raw";
	as_sent();
	arrived.format = (char *)"raw";
	arrived.has_virtual_size = false;
	OK(sent_compare(&raw, &arrived, &other, &e));
	/* converted while it was imported: only the disk's size can be compared */
	struct sent imported = qcow2_sent;
	imported.imported = true;
	as_sent();
	arrived.format = (char *)"raw";
	arrived.size = 512;
	OK(sent_compare(&imported, &arrived, &other, &e));
	arrived.virtual_size = 1024;
	FAILS(sent_compare(&imported, &arrived, &other, &e), ERR_CHANGED);
}
END_TEST

static void add_tests(Suite *s)
{
	TCase *tc = tcase_create("cloud");
	tcase_add_checked_fixture(tc, enter, leave);
	tcase_add_test(tc, cloud_of_a_file);
	tcase_add_test(tc, variables_go_first_then_secure);
	tcase_add_test(tc, places_of_files);
	tcase_add_test(tc, clouds_that_cannot_be_used);
	suite_add_tcase(s, tc);
	tc = tcase_create("answers");
	tcase_add_loop_test(tc, catalog_cases, 0, sizeof catalogs / sizeof *catalogs);
	tcase_add_test(tc, times);
	tcase_add_test(tc, record_of_an_answer);
	tcase_add_test(tc, record_as_bodies);
	tcase_add_loop_test(tc, answers_as_errors, 0, sizeof answers / sizeof *answers);
	tcase_add_test(tc, what_arrived);
	suite_add_tcase(s, tc);
}

#else

START_TEST(not_in_this_build)
{
	struct store *s;
	ck_assert_int_eq(store_open(&s, &(struct store_opts){0}, &e), -1);
	ck_assert_int_eq(e.code, ERR_UNSUPPORTED);
	ck_assert_ptr_null(s);
}
END_TEST

static void add_tests(Suite *s)
{
	TCase *tc = tcase_create("store");
	tcase_add_test(tc, not_in_this_build);
	suite_add_tcase(s, tc);
}
#endif

Suite *suite_store(void);
Suite *suite_store(void)
{
	Suite *s = suite_create("store");
	add_tests(s);
	return s;
}
