/* SPDX-License-Identifier: Apache-2.0
 *
 * A session: who asks is proven to Keystone (v3), which gives a token and the catalog that the image service is found in. The
 * token is renewed before it expires and when it is refused; a long upload may outlive the one that it began with.
 */
#include <time.h>

#include "store/internal.h"

enum { FRESH_SECONDS = 15 };

/* ---- what is asked ---- */

static json_t *named(const char *id, const char *name, json_t *domain)
{
	if (!id)
		return json_pack("{ss so}", "name", name, "domain", domain);
	json_decref(domain);
	return json_pack("{ss}", "id", id);
}

/* As the clients do: where no domain is named it is the one that every Keystone has. */
static json_t *domain(const char *id, const char *name)
{
	return id || !name ? json_pack("{ss}", "id", id ? id : "default") : json_pack("{ss}", "name", name);
}

static json_t *user(const struct cloud *c)
{
	char *const *v = c->values;
	return named(v[CLOUD_USER_ID], v[CLOUD_USERNAME], domain(v[CLOUD_USER_DOMAIN_ID], v[CLOUD_USER_DOMAIN_NAME]));
}

static json_t *by_password(const struct cloud *c)
{
	json_t *who = user(c);
	json_object_set_new(who, "password", json_pack("s", c->values[CLOUD_SECRET_PASSWORD]));
	return json_pack("{s[s] s{so}}", "methods", "password", "password", "user", who);
}

static json_t *by_credential(const struct cloud *c)
{
	char *const *v = c->values;
	json_t *credential = v[CLOUD_CREDENTIAL_ID]
				     ? json_pack("{ss}", "id", v[CLOUD_CREDENTIAL_ID])
				     : json_pack("{ss so}", "name", v[CLOUD_CREDENTIAL_NAME], "user", user(c));
	json_object_set_new(credential, "secret", json_pack("s", v[CLOUD_SECRET_CREDENTIAL]));
	return json_pack("{s[s] so}", "methods", "application_credential", "application_credential", credential);
}

static json_t *by_token(const struct cloud *c)
{
	return json_pack("{s[s] s{ss}}", "methods", "token", "token", "id", c->values[CLOUD_SECRET_TOKEN]);
}

/* The caller's, to be wiped. An application credential has a scope of its own and may ask for none. */
static char *auth_body(const struct cloud *c, struct error *e)
{
	char *const *v = c->values;
	json_t *identity = c->auth == CLOUD_PASSWORD                 ? by_password(c)
			   : c->auth == CLOUD_APPLICATION_CREDENTIAL ? by_credential(c)
								     : by_token(c);
	json_t *auth = json_pack("{so}", "identity", identity);
	if (auth && c->auth != CLOUD_APPLICATION_CREDENTIAL && (v[CLOUD_PROJECT_ID] || v[CLOUD_PROJECT_NAME]))
		json_object_set_new(auth, "scope",
			json_pack("{so}", "project",
				named(v[CLOUD_PROJECT_ID], v[CLOUD_PROJECT_NAME],
					domain(v[CLOUD_PROJECT_DOMAIN_ID], v[CLOUD_PROJECT_DOMAIN_NAME]))));
	json_t *whole = auth ? json_pack("{so}", "auth", auth) : NULL;
	char *text = whole ? json_dumps(whole, JSON_COMPACT) : NULL;
	json_decref(whole);
	if (!text)
		err_fill(e, ERR_USAGE, "the cloud's description is no UTF-8 text");
	return text;
}

/* ---- what is answered ---- */

/* The service's root: whether a catalog has the version in the url differs from cloud to cloud. */
static char *service_root(const char *url, struct error *e)
{
	size_t len = strlen(url);
	while (len && url[len - 1] == '/')
		len--;
	if (len > 3 && strncmp(url + len - 3, "/v2", 3) == 0)
		len -= 3;
	return mem_printf(e, "%.*s", (int)len, url);
}

static const char *region_of(const json_t *endpoint)
{
	const char *id = json_string_value(json_object_get(endpoint, "region_id"));
	return id ? id : json_string_value(json_object_get(endpoint, "region"));
}

/* The one endpoint of the service that fits. Several regions and none named: the order of a catalog says nothing. */
static const json_t *choose(const json_t *service, const char *region, const char *interface, bool *several)
{
	const json_t *endpoint, *found = NULL;
	size_t i;

	json_array_foreach(json_object_get(service, "endpoints"), i, endpoint)
	{
		const char *is = json_string_value(json_object_get(endpoint, "interface")), *in = region_of(endpoint);
		if (!is || strncmp(interface, is, strlen(is)) != 0 || !json_object_get(endpoint, "url"))
			continue;
		if (region && (!in || strcmp(in, region) != 0))
			continue;
		const char *before = found ? region_of(found) : NULL;
		*several |= found && in && before && strcmp(in, before) != 0;
		found = found ? found : endpoint;
	}
	return found;
}

char *catalog_image_url(const json_t *catalog, const char *region, const char *interface, struct error *e)
{
	const json_t *service, *found = NULL;
	bool several = false;
	size_t i;

	if (!interface)
		interface = "public";
	json_array_foreach(catalog, i, service)
	{
		const char *type = json_string_value(json_object_get(service, "type"));
		if (!found && type && strcmp(type, "image") == 0)
			found = choose(service, region, interface, &several);
	}
	const char *url = json_string_value(json_object_get(found, "url"));
	if (!json_array_size(catalog))
		err_fill(e, ERR_USAGE,
			"the token has no catalog: no project was asked for, or none is given to this user");
	else if (several)
		err_fill(e, ERR_USAGE,
			"the image service is in several regions: say which by OS_REGION_NAME or region_name");
	else if (!url)
		err_fill(e, ERR_NOT_FOUND, "the catalog has no image service with a %s endpoint%s%s", interface,
			region ? " in region " : "", region ? region : "");
	return url && !several ? service_root(url, e) : NULL;
}

int64_t time_parse(const char *text)
{
	struct tm tm = {0};
	const char *end = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	if (!end || (*end != '.' && *end != 'Z' && *end != '\0'))
		return 0;
	return timegm(&tm);
}

static int take_answer(struct session *n, struct http_answer *a, struct error *e)
{
	char *const *v = n->cloud.values;
	json_t *root = json_loadb(a->body, a->body_len, 0, NULL);
	const json_t *token = json_object_get(root, "token");
	char *url = NULL;

	if (!a->subject_token || !json_is_object(token))
		err_fill(e, ERR_CORRUPT, "Keystone's answer has no token");
	else if (v[CLOUD_ENDPOINT])
		url = service_root(v[CLOUD_ENDPOINT], e);
	else
		url = catalog_image_url(json_object_get(token, "catalog"), v[CLOUD_REGION], v[CLOUD_INTERFACE], e);
	if (url) {
		free(n->image_url);
		free(n->token);
		n->image_url = url;
		n->token = STEAL(a->subject_token);
		n->expires = time_parse(json_string_value(json_object_get(token, "expires_at")));
	}
	json_decref(root);
	return url ? 0 : -1;
}

static int refused(const struct http_answer *a, struct error *e)
{
	json_t *root = json_loadb(a->body, a->body_len, 0, NULL);
	const char *text = json_string_value(json_object_get(json_object_get(root, "error"), "message"));
	if (answer_error(a, "Keystone", e) < 0 && text) {
		const size_t len = strlen(e->msg);
		snprintf(e->msg + len, sizeof e->msg - len, ": %.300s", text);
	}
	json_decref(root);
	return -1;
}

/* Where tokens are given; the caller's. */
static char *tokens_url(const struct cloud *c, struct error *e)
{
	const char *url = c->values[CLOUD_AUTH_URL];
	size_t len = strlen(url);
	while (len && url[len - 1] == '/')
		len--;
	const bool versioned = len > 3 && strncmp(url + len - 3, "/v3", 3) == 0;
	return mem_printf(e, "%.*s%s/auth/tokens", (int)len, url, versioned ? "" : "/v3");
}

static int ask(struct session *n, const struct http_request *q, struct error *e)
{
	struct http_answer a = {0};
	if (http_call(n->http, q, &a, e) < 0)
		return -1;
	store_tell(n->store, false, "POST %s: %u", q->url, a.status);
	int r = a.status == 201 ? take_answer(n, &a, e) : refused(&a, e);
	http_answer_free(&a);
	return r;
}

int session_renew(struct session *n, struct error *e)
{
	AUTO_FREE char *url = tokens_url(&n->cloud, e), *body = url ? auth_body(&n->cloud, e) : NULL;
	const struct http_request q = {.method = "POST", .url = url, .type = "application/json", .body = body};
	int r = body ? 0 : -1;

	for (unsigned failed = 0; r == 0;) {
		r = ask(n, &q, e);
		if (r == 0 || e->code != ERR_PASSING || failed++ == n->store->opts.retries)
			break;
		r = store_wait(n->store, failed, e, e);
	}
	if (body)
		explicit_bzero(body, strlen(body));
	return r;
}

int session_fresh(struct session *n, struct error *e)
{
	const bool ends = n->token && n->expires && n->expires - time(NULL) < FRESH_SECONDS;
	return ends ? session_renew(n, e) : 0;
}

int session_open(struct session *n, struct store *s, struct error *e)
{
	*n = (struct session){.store = s};
	if (cloud_read(&n->cloud, s->opts.cloud, e) < 0)
		return -1;
	const struct http_opts ho = {.cacert = n->cloud.values[CLOUD_CACERT],
		.insecure = s->opts.insecure || n->cloud.insecure,
		.timeout_seconds = s->opts.timeout_seconds,
		.rate = s->opts.rate,
		.cancel = s->opts.cancel};
	if (http_new(&n->http, &ho, e) < 0)
		return -1;
	if (n->cloud.auth != CLOUD_NONE)
		return session_renew(n, e);
	n->image_url = service_root(n->cloud.values[CLOUD_ENDPOINT], e);
	return n->image_url ? 0 : -1;
}

void session_close(struct session *n)
{
	http_free(n->http);
	cloud_free(&n->cloud);
	if (n->token)
		explicit_bzero(n->token, strlen(n->token));
	free(n->token);
	free(n->image_url);
	*n = (struct session){0};
}
