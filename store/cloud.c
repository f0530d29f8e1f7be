/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the cloud is and who asks, as the openstack client finds it: variables (OS_...) first, then the cloud's entry in
 * secure.yaml, then the one in clouds.yaml. The files are looked for in the current folder, the user's configuration and
 * /etc/openstack; the first one counts.
 */
#include <errno.h>

#include "store/internal.h"

struct key_row {
	const char *variable; /* without OS_ */
	const char *key;      /* of the entry's `auth`, or of the entry itself */
	const char *old_key;  /* another name, as older files have it */
};
static const struct key_row rows[CLOUD_KEYS] = {
	[CLOUD_AUTH_TYPE] = {"AUTH_TYPE", "auth_type", NULL},
	[CLOUD_AUTH_URL] = {"AUTH_URL", "auth_url", NULL},
	[CLOUD_USERNAME] = {"USERNAME", "username", "user_name"},
	[CLOUD_USER_ID] = {"USER_ID", "user_id", NULL},
	[CLOUD_USER_DOMAIN_NAME] = {"USER_DOMAIN_NAME", "user_domain_name", "domain_name"},
	[CLOUD_USER_DOMAIN_ID] = {"USER_DOMAIN_ID", "user_domain_id", "domain_id"},
	[CLOUD_SECRET_PASSWORD] = {"PASSWORD", "password", NULL},
	[CLOUD_PROJECT_NAME] = {"PROJECT_NAME", "project_name", "tenant_name"},
	[CLOUD_PROJECT_ID] = {"PROJECT_ID", "project_id", "tenant_id"},
	[CLOUD_PROJECT_DOMAIN_NAME] = {"PROJECT_DOMAIN_NAME", "project_domain_name", "domain_name"},
	[CLOUD_PROJECT_DOMAIN_ID] = {"PROJECT_DOMAIN_ID", "project_domain_id", "domain_id"},
	[CLOUD_CREDENTIAL_ID] = {"APPLICATION_CREDENTIAL_ID", "application_credential_id", NULL},
	[CLOUD_CREDENTIAL_NAME] = {"APPLICATION_CREDENTIAL_NAME", "application_credential_name", NULL},
	[CLOUD_SECRET_CREDENTIAL] = {"APPLICATION_CREDENTIAL_SECRET", "application_credential_secret", NULL},
	[CLOUD_SECRET_TOKEN] = {"TOKEN", "token", NULL},
	[CLOUD_ENDPOINT] = {"ENDPOINT", "endpoint", "image_endpoint_override"},
	[CLOUD_REGION] = {"REGION_NAME", "region_name", NULL},
	[CLOUD_INTERFACE] = {"INTERFACE", "interface", "endpoint_type"},
	[CLOUD_CACERT] = {"CACERT", "cacert", NULL},
	[CLOUD_VERIFY] = {NULL, "verify", NULL},
};

/* ---- the files ---- */

static int load_first(struct conf **out, char *const *paths, unsigned count, struct error *e)
{
	for (unsigned i = 0; i < count; i++) {
		if (!paths[i])
			continue;
		int r = conf_load(out, paths[i], e);
		if (r == 0 || e->code != ERR_NOT_FOUND)
			return r;
	}
	return err_set(e, ERR_NOT_FOUND, "no such file");
}

/* *out stays NULL when there is no such file. */
static int load(struct conf **out, const char *name, const char *variable, struct error *e)
{
	enum { PLACES = 4 };
	const char *named = getenv(variable), *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char *paths[PLACES] = {NULL};
	struct error why;

	if (named && *named)
		paths[0] = mem_strdup(named, e);
	paths[1] = mem_printf(e, "%s.yaml", name);
	if (config && *config)
		paths[2] = mem_printf(e, "%s/openstack/%s.yaml", config, name);
	else if (home)
		paths[2] = mem_printf(e, "%s/.config/openstack/%s.yaml", home, name);
	paths[3] = mem_printf(e, "/etc/openstack/%s.yaml", name);
	int r = load_first(out, paths, PLACES, &why);
	for (unsigned i = 0; i < PLACES; i++)
		free(paths[i]);
	if (r < 0 && why.code == ERR_NOT_FOUND)
		return 0;
	if (r < 0)
		*e = why;
	return r;
}

/* ---- values ---- */

static const char *from_file(const struct conf *y, const char *cloud, const char *key)
{
	if (!y || !key)
		return NULL;
	const char *value = conf_get(y, (const char *const[]){"clouds", cloud, "auth", key, NULL});
	return value ? value : conf_get(y, (const char *const[]){"clouds", cloud, key, NULL});
}

static const char *from_variable(const char *suffix)
{
	char name[64];
	if (!suffix)
		return NULL;
	snprintf(name, sizeof name, "OS_%s", suffix);
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

static int take_values(struct cloud *c, const char *cloud, const struct conf *secure, const struct conf *clouds,
	struct error *e)
{
	for (unsigned k = 0; k < CLOUD_KEYS; k++) {
		const struct key_row *row = &rows[k];
		const char *value = from_variable(row->variable);
		const struct conf *const files[] = {secure, clouds};
		for (unsigned f = 0; !value && cloud && f < 2; f++) {
			value = from_file(files[f], cloud, row->key);
			if (!value)
				value = from_file(files[f], cloud, row->old_key);
		}
		if (value && *value) {
			c->values[k] = mem_strdup(value, e);
			if (!c->values[k])
				return -1;
		}
	}
	return 0;
}

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(text, *words) == 0)
			return true;
	return false;
}

/* Which way to prove who asks, where nothing is said: what there is for it. */
static int choose_auth(struct cloud *c, struct error *e)
{
	const char *type = c->values[CLOUD_AUTH_TYPE];
	static const char *const passwords[] = {"password", "v3password", NULL};
	static const char *const credentials[] = {"v3applicationcredential", NULL};
	static const char *const tokens[] = {"token", "v3token", NULL};
	static const char *const none[] = {"none", "noauth", NULL};

	if (!type)
		c->auth = c->values[CLOUD_SECRET_CREDENTIAL] ? CLOUD_APPLICATION_CREDENTIAL
			  : c->values[CLOUD_SECRET_TOKEN]    ? CLOUD_TOKEN
							     : CLOUD_PASSWORD;
	else if (is_one_of(type, passwords))
		c->auth = CLOUD_PASSWORD;
	else if (is_one_of(type, credentials))
		c->auth = CLOUD_APPLICATION_CREDENTIAL;
	else if (is_one_of(type, tokens))
		c->auth = CLOUD_TOKEN;
	else if (is_one_of(type, none))
		c->auth = CLOUD_NONE;
	else
		return err_set(e, ERR_UNSUPPORTED,
			"auth_type '%s' is not supported: password, v3applicationcredential, token and none are", type);
	return 0;
}

static int need(const struct cloud *c, enum cloud_key k, struct error *e)
{
	return c->values[k]
		       ? 0
		       : err_set(e, ERR_USAGE, "the cloud's %s is not known: it is neither in OS_%s nor in clouds.yaml",
				 rows[k].key, rows[k].variable);
}

static int check_password(const struct cloud *c, struct error *e)
{
	if (!c->values[CLOUD_USER_ID] && need(c, CLOUD_USERNAME, e) < 0)
		return -1;
	return need(c, CLOUD_SECRET_PASSWORD, e);
}

static int check_credential(const struct cloud *c, struct error *e)
{
	if (need(c, CLOUD_SECRET_CREDENTIAL, e) < 0)
		return -1;
	if (c->values[CLOUD_CREDENTIAL_ID])
		return 0;
	if (need(c, CLOUD_CREDENTIAL_NAME, e) < 0)
		return -1;
	return c->values[CLOUD_USER_ID] ? 0 : need(c, CLOUD_USERNAME, e);
}

static int check(const struct cloud *c, struct error *e)
{
	if (c->auth == CLOUD_NONE)
		return need(c, CLOUD_ENDPOINT, e);
	if (need(c, CLOUD_AUTH_URL, e) < 0)
		return -1;
	return c->auth == CLOUD_PASSWORD                 ? check_password(c, e)
	       : c->auth == CLOUD_APPLICATION_CREDENTIAL ? check_credential(c, e)
							 : need(c, CLOUD_SECRET_TOKEN, e);
}

static bool says_no(const char *text)
{
	static const char *const words[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", NULL};
	return text && is_one_of(text, words);
}

static int read_files(struct cloud *c, const char *name, const struct conf *clouds, const struct conf *secure,
	struct error *e)
{
	if (!name && !from_variable("AUTH_URL") && !from_variable("ENDPOINT") && clouds)
		name = conf_only_key(clouds, (const char *const[]){"clouds", NULL}); /* no doubt which one is meant */
	if (name && !clouds)
		return err_set(e, ERR_NOT_FOUND,
			"cloud '%s': there is no clouds.yaml here, in ~/.config/openstack or "
			"in /etc/openstack",
			name);
	if (name && !conf_has(clouds, (const char *const[]){"clouds", name, NULL}))
		return err_set(e, ERR_NOT_FOUND, "cloud '%s' is not in clouds.yaml", name);
	if (take_values(c, name, secure, clouds, e) < 0)
		return -1;
	c->insecure = says_no(c->values[CLOUD_VERIFY]);
	if (choose_auth(c, e) < 0 || check(c, e) < 0)
		return name ? err_prefix(e, "cloud '%s'", name) : -1;
	return 0;
}

int cloud_read(struct cloud *c, const char *name, struct error *e)
{
	struct conf *clouds = NULL, *secure = NULL;

	*c = (struct cloud){0};
	if (!name)
		name = from_variable("CLOUD");
	int r = load(&clouds, "clouds", "OS_CLIENT_CONFIG_FILE", e);
	if (r == 0)
		r = load(&secure, "secure", "OS_CLIENT_SECURE_FILE", e);
	if (r == 0)
		r = read_files(c, name, clouds, secure, e);
	conf_free(clouds);
	conf_free(secure);
	if (r < 0)
		cloud_free(c);
	return r;
}

void cloud_free(struct cloud *c)
{
	for (unsigned k = 0; k < CLOUD_KEYS; k++) {
		if (c->values[k])
			explicit_bzero(c->values[k], strlen(c->values[k]));
		free(c->values[k]);
		c->values[k] = NULL;
	}
}
