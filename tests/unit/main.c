/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs every suite of tests/unit: the list is made from the file names by the Makefile.
 */
#include <check.h>
#include <stdlib.h>

#define SUITE(name) Suite *suite_##name(void);
#include "unit_list.h"
#undef SUITE

int main(void)
{
	setenv("CK_TIMEOUT_MULTIPLIER", "30", 0); /* a guard against hangs, no measure */
	SRunner *runner = srunner_create(NULL);
#define SUITE(name) srunner_add_suite(runner, suite_##name());
#include "unit_list.h"
#undef SUITE
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
