/* SPDX-License-Identifier: Apache-2.0
 *
 * What the verbs that speak to the image service share: their options, the service opened, who is told what happens.
 */
#ifndef QSNAP_CLI_STORE_H
#define QSNAP_CLI_STORE_H

#include "cli/cli.h"
#include "store/store.h"

/* One run of a verb. */
struct cli_store {
	struct cli *cli;
	struct store_opts opts; /* as the options say */
	enum cli_progress_kind progress_kind;
	bool quiet, json;

	struct cli_progress progress;
	struct store *store;
};

enum { CLI_STORE_TIMEOUT_SECONDS = 120, CLI_STORE_RETRIES_DEFAULT = 4 };

enum cli_store_option {
	CLI_STORE_CLOUD = CLI_OWN,
	CLI_STORE_INSECURE,
	CLI_STORE_TIMEOUT,
	CLI_STORE_RETRIES,
	CLI_STORE_OWN, /* a verb's own begin here */
};
#define CLI_ROW_CLOUD                                                                                                  \
	{                                                                                                              \
		CLI_STORE_CLOUD, "os-cloud", "NAME",                                                                   \
			"cloud of clouds.yaml (default: OS_CLOUD, or the variables OS_...)"                            \
	}
#define CLI_ROW_INSECURE                                                                                               \
	{                                                                                                              \
		CLI_STORE_INSECURE, "insecure", NULL, "do not verify the service's certificate"                        \
	}
#define CLI_ROW_TIMEOUT                                                                                                \
	{                                                                                                              \
		CLI_STORE_TIMEOUT, "timeout", "S",                                                                     \
			"seconds after which a connection on which nothing moves is given up (default 120)"            \
	}
#define CLI_ROW_RETRIES                                                                                                \
	{                                                                                                              \
		CLI_STORE_RETRIES, "retries", "N", "how often what may pass is tried again (default 4)"                \
	}
#define CLI_ROW_JSON_OBJECT                                                                                            \
	{                                                                                                              \
		CLI_JSON, "json", NULL, "print JSON"                                                                   \
	}

void cli_store_init(struct cli_store *s, struct cli *c);
/* Takes the options above, and -r, -p and -q, for the verbs whose rows have them; false: another option. */
bool cli_store_option(struct cli_store *s, int id, const char *arg);
/* From here signals cancel. Opens the service. */
int cli_store_begin(struct cli_store *s, struct error *e);
/* Tells the failure, closes. `failed`: 0, or -1 with an error. Returns the exit status. */
int cli_store_end(struct cli_store *s, int failed, const struct error *e);

/* Properties of an increment's record: "yes", the snapshot that its base is of, the base's id, and the size of its disk. What they, as
 * all records of `vm snapshot`, have besides: the domain's UUID, the disk and the snapshot. */
#define CLI_DELTA "qsnap_delta"
#define CLI_DELTA_SINCE "qsnap_since"
#define CLI_DELTA_BASE "qsnap_base_image"
#define CLI_DELTA_BASE_SIZE "qsnap_base_size"
#define CLI_RECORD_DOMAIN "instance_uuid"
#define CLI_RECORD_DISK "qsnap_disk"
#define CLI_RECORD_SNAPSHOT "qsnap_snapshot"

/* An image's record as an object of JSON. */
void cli_store_json(struct json *j, const char *key, const struct store_image *image);

#endif
