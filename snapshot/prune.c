/* SPDX-License-Identifier: Apache-2.0
 *
 * Which points are kept, by restic's rules, so that who knows those knows these: from the newest on, a point is kept by a period when
 * it is not in the same one as the point before, for as long as there are periods left to count; the oldest of all, too. Periods in
 * which there are no points do not count.
 */
#include "snapshot/internal.h"

#include <fnmatch.h>
#include <time.h>

const char *vm_period_name(enum vm_period p)
{
	static const char *const names[VM_PERIODS] = {[VM_LAST] = "last",
		[VM_HOURLY] = "hourly",
		[VM_DAILY] = "daily",
		[VM_WEEKLY] = "weekly",
		[VM_MONTHLY] = "monthly",
		[VM_YEARLY] = "yearly"};

	return names[p];
}

int vm_span_parse(const char *text, struct vm_span *out, struct error *e)
{
	static const char units[] = "ymdh";
	unsigned *const parts[] = {&out->years, &out->months, &out->days, &out->hours};
	const char *p = text, *unit = units;
	enum { MOST = 100000 };

	*out = (struct vm_span){0};
	do {
		char *end;
		unsigned long n = *p >= '0' && *p <= '9' ? strtoul(p, &end, 10) : 0;
		const char *found = n && n <= MOST && *end ? strchr(unit, *end) : NULL;

		if (!found)
			return err_set(e, ERR_USAGE,
				"'%s' is no span of time: numbers of 1 to %d with y, m, d or h behind, as 1y5m7d2h",
				text, MOST);
		*parts[found - units] = (unsigned)n;
		unit = found + 1;
		p = end + 1;
	} while (*p);
	return 0;
}

/* The time that long before `t`, by the calendar. */
static int64_t before(int64_t t, const struct vm_span *s)
{
	const time_t at = (time_t)t;
	struct tm tm;

	if (!localtime_r(&at, &tm))
		return INT64_MIN;
	tm.tm_year -= (int)s->years;
	tm.tm_mon -= (int)s->months;
	tm.tm_mday -= (int)s->days;
	tm.tm_isdst = -1;
	return (int64_t)mktime(&tm) - (int64_t)s->hours * 3600;
}

/* A number that points of the same period share, and others do not. `order`: of the point. */
static int64_t number_of(enum vm_period p, int64_t created, unsigned order)
{
	const time_t at = (time_t)created;
	char week[32];
	struct tm tm;

	if (p == VM_LAST || !localtime_r(&at, &tm))
		return order;
	switch (p) {
	case VM_YEARLY:
		return tm.tm_year;
	case VM_MONTHLY:
		return tm.tm_year * 12LL + tm.tm_mon;
	case VM_WEEKLY:
		strftime(week, sizeof week, "%G%V", &tm); /* ISO 8601: the week belongs to its Thursday's year */
		return strtoll(week, NULL, 10);
	case VM_DAILY:
		return tm.tm_year * 1000LL + tm.tm_yday;
	default:
		return (tm.tm_year * 1000LL + tm.tm_yday) * 24 + tm.tm_hour;
	}
}

struct counter {
	unsigned left;
	int64_t last;
};

/* Bits of the periods that keep the point; `order` counts whole points from the newest on. */
static unsigned periods(struct counter *counters, const struct vm_point *p, unsigned order, bool oldest)
{
	unsigned why = 0;

	for (enum vm_period k = 0; k < VM_PERIODS; k++) {
		struct counter *c = &counters[k];
		int64_t number = number_of(k, p->created, order);

		if (!c->left || (number == c->last && !oldest))
			continue;
		c->left--;
		c->last = number;
		why |= 1u << k;
	}
	return why;
}

static bool is_named(const struct vm_keep *k, const char *name)
{
	for (unsigned i = 0; i < k->name_count; i++)
		if (fnmatch(k->names[i], name, 0) == 0)
			return true;
	return false;
}

static bool wants_span(const struct vm_span *s)
{
	return s->years || s->months || s->days || s->hours;
}

static bool has_rule(const struct vm_keep *k)
{
	bool any = wants_span(&k->within) || k->name_count;

	for (unsigned p = 0; p < VM_PERIODS; p++)
		any = any || k->count[p];
	return any;
}

/* The points that rules are for: whole, from the newest on. */
static unsigned whole_ones(const struct vm_catalog *c, unsigned *out, unsigned *whole)
{
	unsigned count = 0;

	for (unsigned i = c->count; i-- > 0;) {
		if (c->points[i].state == VM_POINT_WHOLE)
			whole[count++] = i;
		else
			out[i] = VM_REASON_STATE;
	}
	return count;
}

static unsigned apply(const struct vm_catalog *c, const struct vm_keep *keep, unsigned *out, const unsigned *whole,
	unsigned count)
{
	struct counter counters[VM_PERIODS];
	const int64_t since = count ? before(c->points[whole[0]].created, &keep->within) : 0;
	unsigned kept = 0;

	for (unsigned k = 0; k < VM_PERIODS; k++)
		counters[k] = (struct counter){keep->count[k], INT64_MIN};
	for (unsigned n = 0; n < count; n++) {
		const struct vm_point *p = &c->points[whole[n]];
		unsigned why = periods(counters, p, n, n + 1 == count);

		if (wants_span(&keep->within) && p->created > since)
			why |= VM_REASON_WITHIN;
		if (is_named(keep, p->name))
			why |= VM_REASON_NAME;
		out[whole[n]] = why;
		kept += why != 0;
	}
	return kept;
}

int vm_prune_plan(const struct vm_catalog *c, const struct vm_keep *keep, unsigned *out, struct error *e)
{
	AUTO_FREE unsigned *whole = mem_calloc(c->count + 1, sizeof *whole, "snapshots", e);

	if (!whole)
		return -1;
	if (!has_rule(keep))
		return err_set(e, ERR_USAGE, "no rule says what is to be kept");
	unsigned count = whole_ones(c, out, whole);

	if (count && !apply(c, keep, out, whole, count))
		return err_set(e, ERR_USAGE, "the rules keep none of %u snapshots", count);
	return 0;
}
