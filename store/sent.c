/* SPDX-License-Identifier: Apache-2.0
 *
 * What was sent beside what the store says that it has.
 */
#include "store/internal.h"

static int digests(const struct sent *s, const struct store_image *i, bool *other, struct error *e)
{
	if (i->checksum && strcasecmp(i->checksum, s->md5) != 0)
		return err_set(e, ERR_CHANGED, "the store's MD5 is %s, what was sent has %s", i->checksum, s->md5);
	*other = false;
	if (!i->hash || !i->hash_algorithm)
		return i->checksum ? 0 : err_set(e, ERR_CHANGED, "the store has no digest of the image");
	const char *mine = strcasecmp(i->hash_algorithm, "sha512") == 0 ? s->sha512
			   : strcasecmp(i->hash_algorithm, "md5") == 0  ? s->md5
									: NULL;
	*other = !mine;
	if (mine && strcasecmp(i->hash, mine) != 0)
		return err_set(e, ERR_CHANGED, "the store's %s is %.16s..., what was sent has %.16s...",
			i->hash_algorithm, i->hash, mine);
	return 0;
}

int sent_compare(const struct sent *s, const struct store_image *i, bool *other, struct error *e)
{
	/* a service may make another format of what it imports: then only the disk's size can be compared */
	const bool converted = s->imported && i->format && strcmp(i->format, s->format) != 0;

	*other = false;
	if (strcmp(i->status, "active") != 0)
		return err_set(e, ERR_CHANGED, "the image is %s, not active", i->status);
	if (!converted && (!i->has_size || i->size != s->bytes))
		return err_set(e, ERR_CHANGED, "the store has %llu bytes, %llu were sent",
			(unsigned long long)(i->has_size ? i->size : 0), (unsigned long long)s->bytes);
	if (!i->has_virtual_size && strcmp(s->format, "qcow2") == 0)
		return err_set(e, ERR_CHANGED,
			"the store does not know the disk's size: it did not find a qcow2 image");
	if (i->has_virtual_size && s->virtual_size && i->virtual_size != s->virtual_size)
		return err_set(e, ERR_CHANGED, "the store finds a disk of %llu bytes, not of %llu",
			(unsigned long long)i->virtual_size, (unsigned long long)s->virtual_size);
	return converted ? 0 : digests(s, i, other, e);
}
