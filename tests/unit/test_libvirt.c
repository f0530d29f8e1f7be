/* SPDX-License-Identifier: Apache-2.0
 *
 * driver/libvirt_*.c as far as it needs no libvirtd: what is read from definitions, what may stand in XML of our own, and
 * which hosts are this one. Without libvirt: that the build says so.
 */
#include "driver/driver.h"

#include <check.h>

static struct error e;

#ifdef HAVE_LIBVIRT
#include "driver/libvirt_internal.h"

static struct driver_domain dom;

static void drop(void)
{
	driver_domain_free(&dom);
}

/* A definition with these devices. */
static int read_devices(const char *devices)
{
	char text[8192];
	snprintf(text, sizeof text, "<domain type='qemu'><name>x</name><devices>%s</devices></domain>", devices);
	driver_domain_free(&dom);
	return libvirt_xml_domain(text, &dom, &e);
}
#define READ(devices) ck_assert_msg(read_devices(devices) == 0, "%s", e.msg)

static void is_image(const struct driver_disk *d, unsigned i, const char *kind, const char *path,
	enum driver_format format)
{
	ck_assert_uint_lt(i, d->image_count);
	ck_assert_str_eq(d->images[i].kind, kind);
	if (path)
		ck_assert_pstr_eq(d->images[i].path, path);
	else
		ck_assert_ptr_null(d->images[i].path);
	ck_assert_int_eq(d->images[i].format, format);
}

START_TEST(chains)
{
	READ("<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/a &amp; b' index='4'/>"
	     "<backingStore type='block' index='5'><format type='qcow2'/><source dev='/dev/c'/>"
	     "<backingStore type='file'><format type='raw'/><source "
	     "file='/d'/><backingStore/></backingStore></backingStore>"
	     "<target dev='vda' bus='virtio'/></disk>"
	     "<disk type='file'><driver type='qcow2'/><source file='/e'/><target dev='vdb'/></disk>"
	     "<disk type='file'><driver type='qcow2'/><source file='/e'/><backingStore/><target dev='vdc'/></disk>"
	     "<disk type='file'><driver type='raw'/><source file='/f'/><target dev='vdd'/></disk>"
	     "<disk type='file'><driver type='qcow2'/><source file='/g'/><backingStore type='file'><format "
	     "type='qcow2'/>"
	     "<source file='/h'/></backingStore><target dev='vde'/></disk>");
	ck_assert_uint_eq(dom.disk_count, 5);
	const struct driver_disk *d = dom.disks;
	ck_assert_str_eq(d[0].target, "vda");
	ck_assert_uint_eq(d[0].image_count, 3);
	is_image(d, 0, "file", "/a & b", DRIVER_QCOW2);
	is_image(d, 1, "block", "/dev/c", DRIVER_QCOW2);
	is_image(d, 2, "file", "/d", DRIVER_RAW);
	const bool whole[] = {true, false, true, true, false};
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_int_eq(d[i].whole_chain, whole[i]);
		ck_assert(!d[i].no_disk && !d[i].busy && !d[i].readonly && !d[i].encrypted);
	}
}
END_TEST

START_TEST(what_is_no_local_file)
{
	READ("<disk type='network'><driver type='raw'/><source protocol='rbd' name='pool/image'><host "
	     "name='h'/></source>"
	     "<target dev='vda'/></disk>"
	     "<disk type='volume'><driver type='qcow2'/><source pool='p' volume='v'/><target dev='vdb'/></disk>"
	     "<disk type='file'><driver type='raw'/><source file='/a'><slices><slice type='storage' offset='8' "
	     "size='9'/>"
	     "</slices></source><target dev='vdc'/></disk>"
	     "<disk type='file'><driver type='vmdk'/><source file='/a'/><target dev='vdd'/></disk>"
	     "<disk type='file'><driver name='qemu'/><source file='/a'/><target dev='vde'/></disk>");
	is_image(&dom.disks[0], 0, "network", NULL, DRIVER_RAW);
	is_image(&dom.disks[1], 0, "volume", NULL, DRIVER_QCOW2);
	is_image(&dom.disks[2], 0, "slice", NULL, DRIVER_RAW);
	is_image(&dom.disks[3], 0, "file", "/a", DRIVER_FORMAT_OTHER);
	is_image(&dom.disks[4], 0, "file", "/a", DRIVER_FORMAT_OTHER);
}
END_TEST

START_TEST(properties_of_disks)
{
	READ("<disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>"
	     "<disk type='file' device='floppy'><source file='/f'/><target dev='fda'/></disk>"
	     "<disk type='file'><target dev='vda'/></disk>"
	     "<disk type='file'><source file='/a'/><target dev='vdb'/><readonly/><shareable/><transient/></disk>"
	     "<disk type='file'><source file='/a'><encryption format='luks'/></source><target dev='vdc'/></disk>"
	     "<disk type='file'><source file='/a'/><encryption format='luks'/><target dev='vdd'/></disk>"
	     "<disk type='file'><source file='/a'/><backingStore type='file'><format type='qcow2'/><source file='/b'>"
	     "<encryption format='luks'/></source></backingStore><target dev='vde'/></disk>"
	     "<disk type='file'><source file='/a'/><mirror type='file' job='copy' ready='yes'><source "
	     "file='/to'/></mirror>"
	     "<target dev='vdf'/></disk>"
	     "<disk type='file'><source file='/a'/><mirror type='file' job='active-commit'><source "
	     "file='/to'/></mirror>"
	     "<target dev='vdg'/></disk>");
	const struct driver_disk *d = dom.disks;
	ck_assert(d[0].no_disk && d[1].no_disk && d[2].no_disk && !d[3].no_disk);
	ck_assert_uint_eq(d[0].image_count, 0);
	ck_assert(d[0].readonly && d[3].readonly && d[3].shareable && d[3].transient);
	ck_assert(!d[3].encrypted && d[4].encrypted && d[5].encrypted && d[6].encrypted);
	ck_assert(!d[6].busy && d[7].busy && d[8].busy);
	ck_assert_ptr_null(d[6].copy_to);
	ck_assert_pstr_eq(d[7].copy_to, "/to");
	ck_assert_ptr_null(d[8].copy_to);
}
END_TEST

START_TEST(host_devices_and_agent)
{
	READ("<hostdev mode='subsystem' type='pci' managed='yes'><source><address bus='1'/></source></hostdev>"
	     "<hostdev mode='subsystem' type='usb'><source/></hostdev><hostdev mode='capabilities' type='misc'/>"
	     "<interface type='hostdev'><mac address='1'/></interface><interface type='network'/>"
	     "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' "
	     "state='disconnected'/></channel>");
	ck_assert_uint_eq(dom.host_device_count, 3);
	ck_assert_str_eq(dom.host_devices[0], "<hostdev mode=\"subsystem\" type=\"pci\" "
					      "managed=\"yes\"><source><address bus=\"1\"/></source></hostdev>");
	ck_assert_ptr_nonnull(strstr(dom.host_devices[1], "usb"));
	ck_assert_ptr_nonnull(strstr(dom.host_devices[2], "<mac address"));
	ck_assert(!dom.agent);
	READ("<channel type='unix'><target name='org.other' state='connected'/></channel>");
	ck_assert(!dom.agent);
	READ("<channel type='unix'><target name='org.other' state='connected'/></channel>"
	     "<channel type='unix'><target name='org.qemu.guest_agent.0' state='connected'/></channel>");
	ck_assert(dom.agent);
}
END_TEST

START_TEST(same_host_device)
{
	const char *was = "<hostdev type='pci'><source><address bus='1'/></source></hostdev>";
	const char *back = "<hostdev type='pci'><source><address bus='1'/></source><alias name='hostdev0'/></hostdev>";
	const char *other = "<hostdev type='pci'><source><address bus='2'/></source><alias name='hostdev0'/></hostdev>";
	const char *longer = "<hostdev type='pci'><source><address bus='1'/><x/></source></hostdev>";
	ck_assert(driver_same_host_device(was, back));
	ck_assert(!driver_same_host_device(was, other));
	ck_assert(!driver_same_host_device(back, other));
	ck_assert(!driver_same_host_device(was, longer));
	ck_assert(driver_same_host_device("<interface><source dev='a'/><b/></interface>",
		"<interface><source dev='a'/></interface>"));
	ck_assert(!driver_same_host_device("<interface><source dev='a'/></interface>",
		"<interface><source dev='b'/></interface>"));
	ck_assert(driver_same_host_device("<hostdev/>", "<hostdev/>"));
	ck_assert(!driver_same_host_device("<hostdev/>", "<hostdev type='usb'/>"));
	ck_assert(!driver_same_host_device("<source", was));
}
END_TEST

START_TEST(what_is_refused)
{
	ck_assert_int_eq(read_devices("<disk type='file'><source file='/a'/></disk>"), -1); /* no target */
	ck_assert_int_eq(read_devices("<disk>"), -1);
	static const char entity[] = "<!DOCTYPE domain [<!ENTITY f SYSTEM \"file:///etc/hostname\">]>"
				     "<domain><devices><disk type='file'><source file='/a'/><target dev='&f;'/></disk>"
				     "</devices></domain>";
	drop();
	ck_assert_int_eq(libvirt_xml_domain(entity, &dom, &e), -1);
	drop();
	ck_assert_int_eq(libvirt_xml_domain("", &dom, &e), -1);
	drop();
	ck_assert_int_eq(libvirt_xml_domain("<domain/>", &dom, &e), 0);
	ck_assert_uint_eq(dom.disk_count, 0);
}
END_TEST

static char *new_disk(const char *path)
{
	struct libvirt_xml x = {0};
	const struct driver_new_file file = {.target = "vda", .path = path, .format = DRIVER_QCOW2};
	libvirt_xml_new_file(&x, libvirt_xml_add(&x, NULL, "disk", NULL), &file);
	return libvirt_xml_finish(&x, &e);
}

/* Whatever a path is, it comes back as that path, or is refused. */
START_TEST(paths_are_only_paths)
{
	static const char *const paths[] = {"/a", "/'\"<>&;", "/x'/><disk file='/y", "/\xc3\xa9 ]]>", "/%s&amp;"};
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		AUTO_FREE char *text = new_disk(paths[i]);
		ck_assert_msg(text != NULL, "%s", e.msg);
		AUTO_DOC xmlDoc *doc = libvirt_xml_parse(text, &e);
		AUTO_FREE char *back = NULL;
		ck_assert_ptr_nonnull(doc);
		const xmlNode *source = libvirt_xml_child(xmlDocGetRootElement(doc), "source");
		ck_assert_int_eq(libvirt_xml_attr(source, "file", &back, &e), 0);
		ck_assert_pstr_eq(back, paths[i]);
		ck_assert_ptr_null(source->next);
	}
	static const char *const unfit[] = {"/\x01", "/\xff", "/\xc3"};
	for (size_t i = 0; i < sizeof unfit / sizeof *unfit; i++) {
		ck_assert_ptr_null(new_disk(unfit[i]));
		ck_assert_int_eq(e.code, ERR_UNSUPPORTED);
	}
}
END_TEST

static void read_metadata(const char *metadata)
{
	char text[4096];
	snprintf(text, sizeof text, "<domain><metadata>%s</metadata><devices/></domain>", metadata);
	driver_domain_free(&dom);
	ck_assert_msg(libvirt_xml_domain(text, &dom, &e) == 0, "%s", e.msg);
}

START_TEST(where_it_comes_from)
{
	static const char *const systems[][2] = {{"http://debian.org/debian/12", "linux"},
		{"http://microsoft.com/win/10", "windows"}, {"http://freebsd.org/freebsd/14", NULL},
		{"http://notdebian.org/x", NULL}};
	char text[512];

	read_metadata("<other:instance xmlns:other='http://example.org/'><owner><project "
		      "uuid='1'/></owner></other:instance>"
		      "<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:name>x</nova:name>"
		      "<nova:owner><nova:user uuid='0a1b'>u</nova:user><nova:project "
		      "uuid='c2d3-e4'>p</nova:project></nova:owner>"
		      "<nova:root type='image' uuid='155d900f-4e14-4e4c-a73d-069cbf4541e6'/></nova:instance>");
	ck_assert_str_eq(dom.origin.image, "155d900f-4e14-4e4c-a73d-069cbf4541e6");
	ck_assert_str_eq(dom.origin.project, "c2d3-e4");
	ck_assert_str_eq(dom.origin.user, "0a1b");
	ck_assert_ptr_null(dom.origin.os);
	read_metadata("<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>"
		      "<nova:owner><nova:project uuid='../v2/images'/></nova:owner><nova:root type='volume' "
		      "uuid='1'/></nova:instance>");
	ck_assert_ptr_null(dom.origin.image);
	ck_assert_ptr_null(dom.origin.project);
	for (size_t i = 0; i < sizeof systems / sizeof *systems; i++) {
		snprintf(text, sizeof text,
			"<l:libosinfo xmlns:l='http://libosinfo.org/xmlns/libvirt/domain/1.0'><l:os "
			"id='%s'/></l:libosinfo>",
			systems[i][0]);
		read_metadata(text);
		ck_assert_pstr_eq(dom.origin.os, systems[i][1]);
	}
}
END_TEST

START_TEST(which_host)
{
	static const char *const local[] = {"qemu:///system", "qemu:///session", "test:///default",
		"qemu+unix:///system", "qemu:///system?socket=/tmp/s", "qemu+unix://somehost/system",
		"qemu+tcp://localhost/system", "qemu+tls://localhost:16514/system", "qemu+ssh://root@localhost/system"};
	static const char *const remote[] = {"qemu://other/system", "qemu+ssh://other/system",
		"qemu+ssh://u@other:22/system", "qemu+ext:///system?command=nc", "qemu+ssh://localhost.example/system",
		"qemu+tcp://[::2]/system", "nothing"};
	for (size_t i = 0; i < sizeof local / sizeof *local; i++)
		ck_assert_msg(libvirt_uri_is_local(local[i]), "%s is local", local[i]);
	for (size_t i = 0; i < sizeof remote / sizeof *remote; i++)
		ck_assert_msg(!libvirt_uri_is_local(remote[i]), "%s is not local", remote[i]);
	ck_assert(libvirt_same_host("a", "a") && libvirt_same_host("a", "a.example") &&
		  libvirt_same_host("A.example", "a"));
	ck_assert(!libvirt_same_host("a", "b") && !libvirt_same_host("a", "ab") && !libvirt_same_host("a.x", "a.y"));
}
END_TEST

START_TEST(devices_of_qemu)
{
	ck_assert(libvirt_qdev_is("virtio-disk0", "virtio-disk0"));
	ck_assert(libvirt_qdev_is("/machine/peripheral/virtio-disk0/virtio-backend", "virtio-disk0"));
	ck_assert(libvirt_qdev_is("/machine/peripheral/virtio-disk0", "virtio-disk0"));
	ck_assert(!libvirt_qdev_is("/machine/peripheral/virtio-disk10/virtio-backend", "virtio-disk1"));
	ck_assert(!libvirt_qdev_is("/machine/peripheral/my-virtio-disk1", "virtio-disk1"));
	ck_assert(!libvirt_qdev_is("", "virtio-disk1"));
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_checked_fixture(tc, NULL, drop);
	tcase_add_test(tc, chains);
	tcase_add_test(tc, what_is_no_local_file);
	tcase_add_test(tc, properties_of_disks);
	tcase_add_test(tc, host_devices_and_agent);
	tcase_add_test(tc, same_host_device);
	tcase_add_test(tc, what_is_refused);
	tcase_add_test(tc, paths_are_only_paths);
	tcase_add_test(tc, where_it_comes_from);
	tcase_add_test(tc, which_host);
	tcase_add_test(tc, devices_of_qemu);
}

#else

START_TEST(not_in_this_build)
{
	struct driver *d;
	ck_assert_int_eq(driver_libvirt_open(&d, NULL, &e), -1);
	ck_assert_int_eq(e.code, ERR_UNSUPPORTED);
	ck_assert_ptr_null(d);
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, not_in_this_build);
}
#endif

Suite *suite_libvirt(void);
Suite *suite_libvirt(void)
{
	Suite *s = suite_create("libvirt");
	TCase *tc = tcase_create("libvirt");
	add_tests(tc);
	suite_add_tcase(s, tc);
	return s;
}
