/* SPDX-License-Identifier: Apache-2.0
 *
 * driver/libvirt_adapt.c, libvirt_strange.c: definitions from elsewhere. What reaches the host is refused, by whatever element; what a
 * guest can do without is left out; the rest is what it was, but for name, UUID, addresses and files. And so it is in a file with a
 * guest's memory (driver/libvirt_saved_head.c).
 */
#include "driver/driver.h"

#include <check.h>

Suite *suite_libvirt_import(void);

#ifdef HAVE_LIBVIRT
#include "driver/libvirt_internal.h"
#include "tests/unit/scratch.h"

#define UUID "11111111-2222-4333-8444-555555555555"
static struct error e;
static char notes[2000];
static char *out;

static void note(void *ctx, const char *text)
{
	(void)ctx;
	snprintf(notes + strlen(notes), sizeof notes - strlen(notes), "%s;", text);
}

static const struct driver_new_file files[] = {{"vda", "/images/new & vda.qcow2", DRIVER_QCOW2}};
static struct driver_import how;

static void set(void)
{
	how = (struct driver_import){
		.name = "new", .uuid = UUID, .renamed = true, .files = files, .file_count = 1, .note = note};
	notes[0] = 0;
}

static void drop(void)
{
	free(STEAL(out));
}

#define DISK                                                                                                           \
	"<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none'/><source dev='/dev/old'/>"       \
	"<backingStore/><target dev='vda' bus='virtio'/></disk>"
#define DOMAIN(head, devices)                                                                                          \
	"<domain type='kvm'><name>old</name><uuid>00000000-0000-4000-8000-000000000000</uuid>"                         \
	"<memory>1</memory>" head "<devices>" DISK devices "</devices></domain>"

static int adapt(const char *xml)
{
	free(STEAL(out));
	return libvirt_adapt(NULL, xml, &how, &out, &e);
}

static const char *const harmless[] = {
	DOMAIN("", ""),
	DOMAIN("<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type><loader readonly='yes' type='pflash'>"
	       "/usr/share/OVMF/OVMF_CODE.fd</loader><nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/x_VARS.fd"
	       "</nvram><boot dev='hd'/></os>",
		""),
	DOMAIN("<metadata><x:a xmlns:x='http://x/y'>/etc/shadow</x:a></metadata><description>a/b</description>"
	       "<clock offset='timezone' timezone='Europe/Berlin'/>",
		""),
	DOMAIN("",
		"<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/><model "
		"type='virtio'/></interface><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
		"</channel><console type='pty'/><rng model='virtio'><backend "
		"model='random'>/dev/urandom</backend></rng>"
		"<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/><tpm model='tpm-crb'><backend "
		"type='emulator' version='2.0'/></tpm><memballoon model='virtio'/>"),
	DOMAIN("<sysinfo type='smbios'><system><entry name='uuid'>00000000-0000-4000-8000-000000000000</entry></system>"
	       "</sysinfo>",
		""),
};

START_TEST(test_harmless)
{
	ck_assert_msg(!adapt(harmless[_i]), "%s", e.msg);
	ck_assert_ptr_nonnull(strstr(out, "<name>new</name><uuid>" UUID "</uuid>"));
	ck_assert_ptr_nonnull(strstr(out, "<source file=\"/images/new &amp; vda.qcow2\"/>"));
	ck_assert_ptr_nonnull(strstr(out, "cache=\"none\""));
	ck_assert(!strstr(out, "/dev/old") && !strstr(out, "00000000-0000") && !strstr(out, "/var/lib/x_VARS.fd"));
	ck_assert_str_eq(notes, "");
}
END_TEST

/* What it is, and a part of why it is refused. */
static const struct {
	const char *xml, *says;
} strange[] = {
	{DOMAIN("", "<disk type='file' device='disk'><source file='/etc/shadow'/><target dev='vdb'/></disk>"),
		"disk vdb"},
	{DOMAIN("", "<disk type='network'><source protocol='nbd' name='x'/><target dev='vdb'/></disk>"), "disk vdb"},
	{DOMAIN("", "<disk type='file' device='lun'><target dev='vda'/></disk>"), "'lun'"},
	{"<domain type='kvm'><devices><disk device='disk'><source file='/a'/><source file='/etc/shadow'/><target "
	 "dev='vda'/></disk></devices></domain>",
		"/etc/shadow"},
	{"<domain type='kvm'><devices><disk device='disk'><source file='/a'/><encryption format='luks'/><target "
	 "dev='vda'/></disk></devices></domain>",
		"<encryption>"},
	{"<domain type='kvm'><devices><disk device='disk' rawio='yes'><target dev='vda'/></disk></devices></domain>",
		"rawio"},
	{DOMAIN("", "<filesystem type='mount'><source dir='/'/><target dir='x'/></filesystem>"), "<filesystem>"},
	{DOMAIN("", "<hostdev mode='subsystem' type='usb'/>"), "<hostdev>"},
	{DOMAIN("", "<shmem name='x'/>"), "<shmem>"},
	{DOMAIN("", "<memory model='nvdimm'><source><path>/etc/shadow</path></source></memory>"), "<memory>"},
	{DOMAIN("", "<serial type='file'><source path='/etc/cron.d/x'/></serial>"), "'file'"},
	{DOMAIN("", "<serial type='pty'><log file='x'/></serial>"), "'x'"},
	{DOMAIN("", "<console type='dev'><source path='/dev/ttyS0'/></console>"), "'dev'"},
	{DOMAIN("", "<console/>"), "''"},
	{DOMAIN("", "<channel type='unix'><source mode='bind' path='/run/x'/></channel>"), "/run/x"},
	{DOMAIN("", "<channel type='tcp'><source host='a' service='1'/></channel>"), "'tcp'"},
	{DOMAIN("", "<interface type='ethernet'><script path='/tmp/x'/></interface>"), "'ethernet'"},
	{DOMAIN("", "<interface type='bridge'><source bridge='b'/><script path='x'/></interface>"), "path"},
	{DOMAIN("", "<interface type='bridge'><source bridge='b'/><rom file='x'/></interface>"), "file"},
	{DOMAIN("", "<interface type='direct'><source dev='eth0'/></interface>"), "'direct'"},
	{DOMAIN("", "<input type='evdev'><source dev='/dev/input/event0'/></input>"), "'evdev'"},
	{DOMAIN("", "<graphics type='spice'><listen type='socket' socket='x'/></graphics>"), "socket"},
	{DOMAIN("", "<graphics type='egl-headless'/>"), "egl-headless"},
	{DOMAIN("", "<video><model type='virtio'><acceleration rendernode='/dev/dri/x'/></model></video>"),
		"rendernode"},
	{DOMAIN("", "<rng model='virtio'><backend model='egd' type='tcp'/></rng>"), "<rng>"},
	{DOMAIN("", "<rng model='virtio'><backend model='random'>/dev/sda</backend></rng>"), "/dev/sda"},
	{DOMAIN("", "<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>"), "<tpm>"},
	{DOMAIN("", "<audio id='1' type='file' path='/x'/>"), "'file'"},
	{DOMAIN("<os><kernel>/boot/vmlinuz</kernel></os>", ""), "<kernel>"},
	{DOMAIN("<os><initrd>/etc/shadow</initrd></os>", ""), "<initrd>"},
	{DOMAIN("<os><loader>/etc/shadow</loader></os>", ""), "/etc/shadow"},
	{DOMAIN("<os><loader>/usr/share/OVMF/../../../etc/shadow</loader></os>", ""), "shadow"},
	{DOMAIN("<os><loader type='pflash' readonly='no'>/usr/share/OVMF/OVMF_CODE.fd</loader></os>", ""), "read-only"},
	{DOMAIN("<os><loader><a path='/etc/shadow'/></loader></os>", ""), "read-only"},
	{DOMAIN("<os><nvram template='/etc/shadow'/></os>", ""), "/etc/shadow"},
	{DOMAIN("<os><smbios mode='sysinfo'/></os><os><kernel>/x</kernel></os>", ""), "twice"},
	{DOMAIN("<bootloader>/bin/sh</bootloader>", ""), "<bootloader>"},
	{DOMAIN("<launchSecurity type='sev'/>", ""), "<launchSecurity>"},
	{DOMAIN("<sysinfo type='fwcfg'><entry name='x' file='/etc/shadow'/></sysinfo>", ""), "<sysinfo>"},
	{DOMAIN("<title>t</title><features><x>/etc/shadow</x></features>", ""), "/etc/shadow"},
	{"<domain type='kvm' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:commandline><q:arg value='-x'/>"
	 "</q:commandline></domain>",
		"<commandline>"},
	{"<domain type='kvm' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:metadata><q:arg value='-x'/>"
	 "</q:metadata></domain>",
		"another language"},
	{"<domain type='kvm'><devices/><devices><hostdev/></devices></domain>", "twice"},
	{"<domain type='lxc'/>", "neither kvm nor qemu"},
	{"<domain type='kvm'><memory>&x;</memory></domain>", ""},
	{"<!DOCTYPE domain [<!ENTITY x SYSTEM '/etc/shadow'>]><domain type='kvm'><name>&x;</name></domain>",
		"document type"},
	{"<network/>", "no definition"},
	{"<domain", ""},
};

START_TEST(test_strange)
{
	ck_assert_msg(adapt(strange[_i].xml), "%s: became %s", strange[_i].xml, out);
	ck_assert_msg(strstr(e.msg, strange[_i].says) != NULL, "'%s' is not '%s'", e.msg, strange[_i].says);
}
END_TEST

START_TEST(test_left_out)
{
	ck_assert_msg(!adapt(DOMAIN("<seclabel type='none'/><resource><partition>/x</partition></resource>",
			      "<emulator>/tmp/evil</emulator><disk type='block' device='cdrom'><source "
			      "dev='/dev/sr0'/><target dev='sda'/></disk>")),
		"%s", e.msg);
	ck_assert_ptr_nonnull(strstr(notes, "<seclabel> is left out"));
	ck_assert_ptr_nonnull(strstr(notes, "<resource> is left out"));
	ck_assert_ptr_nonnull(strstr(notes, "not /tmp/evil"));
	ck_assert_ptr_nonnull(strstr(notes, "drive sda"));
	ck_assert(!strstr(out, "seclabel") && !strstr(out, "/x") && !strstr(out, "evil") && !strstr(out, "sr0"));
	ck_assert_ptr_nonnull(strstr(out, "<target dev=\"sda\"/>"));
}
END_TEST

START_TEST(test_trusted)
{
	how.trusted = true;
	ck_assert_msg(!adapt(DOMAIN("<os><kernel>/boot/k</kernel></os>",
			      "<serial type='file'><source path='/log'/></serial><disk><source file='/other'/><target "
			      "dev='vdb'/></disk>")),
		"%s", e.msg);
	ck_assert(strstr(out, "/boot/k") && strstr(out, "/log") && strstr(out, "/other"));
	ck_assert(strstr(out, UUID) && !strstr(out, "/dev/old"));
}
END_TEST

/* One old address becomes one new one, in all definitions of the new machine, and another one elsewhere. */
START_TEST(test_addresses)
{
	const char *xml = DOMAIN("<genid>11111111-0000-4000-8000-000000000000</genid>",
		"<interface type='user'><mac address='52:54:00:AA:00:01'/></interface>"
		"<interface type='user'><mac address='52:54:00:aa:00:01'/></interface>"
		"<interface type='user'><mac address='52:54:00:aa:00:02'/></interface>");
	char macs[3][18], *at;

	ck_assert_msg(!adapt(xml), "%s", e.msg);
	ck_assert_ptr_nonnull(strstr(out, "<genid/>"));
	at = out;
	for (unsigned i = 0; i < 3; i++) {
		at = strstr(at, "<mac address=\"");
		ck_assert_ptr_nonnull(at);
		at += strlen("<mac address=\"");
		snprintf(macs[i], sizeof macs[i], "%s", at);
		ck_assert(!strncmp(macs[i], "52:54:00:", 9) && strncmp(macs[i], "52:54:00:aa:00", 14) != 0);
	}
	ck_assert_str_eq(macs[0], macs[1]);
	ck_assert_str_ne(macs[0], macs[2]);
	how.uuid = "21111111-2222-4333-8444-555555555555";
	ck_assert_msg(!adapt(xml), "%s", e.msg);
	ck_assert_ptr_null(strstr(out, macs[0]));
	how.renamed = false;
	ck_assert_msg(!adapt(xml), "%s", e.msg);
	ck_assert(strstr(out, "52:54:00:AA:00:01") && strstr(out, "<genid>1111"));
}
END_TEST

START_TEST(test_nvram)
{
	how.nvram = "/images/new_VARS.fd";
	ck_assert_msg(!adapt(harmless[1]), "%s", e.msg);
	ck_assert_ptr_nonnull(strstr(out, ">/images/new_VARS.fd</nvram>"));
	ck_assert_int_eq(adapt(harmless[0]), -1);
}
END_TEST

/* ---- in a file with a guest's memory ---- */

#define SAVED                                                                                                          \
	DOMAIN("<genid>11111111-0000-4000-8000-000000000000</genid>",                                                  \
		"<interface type='user'><mac address='52:54:00:aa:00:01'/></interface>")
#define COOKIE "<cookie/>"
#define MEMORY "QEVM and more"
enum { HEAD = 92, NUMBERS = 19 };

static void enter_folder(void)
{
	ck_assert(scratch_enter(SCRATCH_DISK));
	set();
	how.trusted = true;
}

static void leave_folder(void)
{
	drop();
	scratch_leave();
}

/* As libvirt writes it; `swapped`: on a host of the other byte order. */
static void write_memory(uint32_t numbers[NUMBERS], bool cookie, bool swapped)
{
	static char bytes[4096];
	const uint32_t xml = sizeof SAVED, more = cookie ? sizeof COOKIE : 0;

	if (!numbers[1])
		numbers[1] = xml + more;
	if (cookie)
		numbers[4] = xml;
	memcpy(bytes, "LibvirtQemudSave", 16);
	for (unsigned i = 0; i < NUMBERS; i++) {
		const uint32_t n = swapped ? __builtin_bswap32(numbers[i]) : numbers[i];

		memcpy(bytes + 16 + 4 * (size_t)i, &n, 4);
	}
	memcpy(bytes + HEAD, SAVED, xml);
	memcpy(bytes + HEAD + xml, COOKIE, more);
	memcpy(bytes + HEAD + xml + more, MEMORY, sizeof MEMORY);
	scratch_file("memory", bytes, HEAD + xml + more + sizeof MEMORY);
}

static uint32_t number(const struct driver_head *head, unsigned i, bool swapped)
{
	uint32_t n;

	memcpy(&n, head->bytes + 16 + 4 * (size_t)i, 4);
	return swapped ? __builtin_bswap32(n) : n;
}

START_TEST(test_memory)
{
	const bool cookie = _i & 1, swapped = _i & 2;
	uint32_t numbers[NUMBERS] = {2, 0, 1, 3};
	struct driver_head head;
	size_t len;

	write_memory(numbers, cookie, swapped);
	ck_assert_msg(!libvirt_adapt_memory(NULL, "memory", &how, &head, &e), "%s", e.msg);
	AUTO_FREE char *file = scratch_read("memory", &len);
	const char *xml = (const char *)head.bytes + HEAD;
	const size_t end = strlen(xml) + 1;

	ck_assert_str_eq(file + head.from, MEMORY);
	ck_assert_uint_eq(head.len, HEAD + end + (cookie ? sizeof COOKIE : 0));
	ck_assert_int_eq(memcmp(head.bytes, "LibvirtQemudSave", 16), 0);
	ck_assert_uint_eq(number(&head, 0, swapped), 2);
	ck_assert_uint_eq(number(&head, 1, swapped), head.len - HEAD);
	ck_assert_uint_eq(number(&head, 2, swapped), 1);
	ck_assert_uint_eq(number(&head, 3, swapped), 3);
	ck_assert_uint_eq(number(&head, 4, swapped), cookie ? end : 0);
	if (cookie)
		ck_assert_str_eq(xml + end, COOKIE);
	ck_assert_ptr_nonnull(strstr(xml, "<name>new</name><uuid>" UUID "</uuid>"));
	ck_assert_ptr_nonnull(strstr(xml, "<genid>" UUID "</genid>"));
	ck_assert_ptr_nonnull(strstr(xml, "<source file=\"/images/new &amp; vda.qcow2\"/>"));
	ck_assert(!strstr(xml, "52:54:00:aa:00:01"));
	free(head.bytes);
}
END_TEST

static const struct {
	uint32_t numbers[NUMBERS];
	enum err_code code;
} no_memory[] = {
	{{0}, ERR_CHANGED},               /* no version */
	{{3}, ERR_CHANGED},               /* a later one */
	{{2, 17 << 20}, ERR_LIMIT},       /* a definition that is too long */
	{{2, 100, 0, 0, 101}, ERR_LIMIT}, /* a cookie behind the end */
	{{2, 1 << 20}, ERR_CHANGED},      /* the file ends before */
	{{2, 0, 0, 6}, ERR_UNSUPPORTED},  /* data that must not move */
	{{2, 100}, ERR_CORRUPT},          /* half a definition */
	{{2, 0, 0, 0, 1}, ERR_CORRUPT},   /* none */
};

START_TEST(test_no_memory)
{
	uint32_t numbers[NUMBERS];
	struct driver_head head;

	memcpy(numbers, no_memory[_i].numbers, sizeof numbers);
	write_memory(numbers, false, false);
	ck_assert_int_eq(libvirt_adapt_memory(NULL, "memory", &how, &head, &e), -1);
	ck_assert_ptr_null(head.bytes);
	ck_assert_msg(e.code == no_memory[_i].code, "%d: %s", e.code, e.msg);
}
END_TEST

/* Cut off anywhere before the memory, it is no file of that kind. */
START_TEST(test_memory_ends_early)
{
	uint32_t numbers[NUMBERS] = {2};
	struct driver_head head;
	size_t len;

	write_memory(numbers, true, false);
	AUTO_FREE char *file = scratch_read("memory", &len);

	for (size_t i = 0; i < len - sizeof MEMORY; i += 7) {
		scratch_file("memory", file, i);
		ck_assert_int_eq(libvirt_adapt_memory(NULL, "memory", &how, &head, &e), -1);
		ck_assert_int_eq(e.code, ERR_CHANGED);
	}
}
END_TEST
#endif

Suite *suite_libvirt_import(void)
{
	Suite *s = suite_create("libvirt_import");
#ifdef HAVE_LIBVIRT
	TCase *t = tcase_create("definitions");

	tcase_add_checked_fixture(t, set, drop);
	tcase_add_loop_test(t, test_harmless, 0, (int)(sizeof harmless / sizeof *harmless));
	tcase_add_loop_test(t, test_strange, 0, (int)(sizeof strange / sizeof *strange));
	tcase_add_test(t, test_left_out);
	tcase_add_test(t, test_trusted);
	tcase_add_test(t, test_addresses);
	tcase_add_test(t, test_nvram);
	suite_add_tcase(s, t);
	t = tcase_create("memory");
	tcase_add_checked_fixture(t, enter_folder, leave_folder);
	tcase_add_loop_test(t, test_memory, 0, 4);
	tcase_add_loop_test(t, test_no_memory, 0, (int)(sizeof no_memory / sizeof *no_memory));
	tcase_add_test(t, test_memory_ends_early);
	suite_add_tcase(s, t);
#endif
	return s;
}
