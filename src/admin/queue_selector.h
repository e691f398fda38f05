/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/queue_selector.h - the selectors of the queue as the API writes them, and names of its
 * words.
 */
#pragma once

#include "admin/http.h"
#include "queue/queue.h"

enum { ADMIN_IDS_SHOWN = 5 };

/* Where selectors come from: the query of a GET, or the object "select" of a POST. */
struct admin_queue_selector_source {
    const struct admin_request *request;
    json_t *object; /* NULL: the query */
};

/* False: the answer is a problem. The limit of a query is the page's (admin/page.h). */
bool admin_read_queue_selector(const struct admin_queue_selector_source *source,
                               struct queue_selector *out, struct admin_answer *answer);
/* The beginning of an id must not mean several messages. False: it does, and the answer is a
 * problem that says which. */
bool admin_id_is_clear(struct admin_request *request, const struct queue_selector *selector,
                       struct admin_answer *answer);
/* The same of ids that begin with `text`, `count` of at least as many. */
void admin_tell_ambiguous(struct admin_answer *answer, struct str text, const struct mail_id *ids,
                          size_t count);
/* "ready" … */
const char *admin_state_name(enum queue_state state);
/* {"ready": 3, …}, with all states. */
json_t *admin_states_json(const uint64_t *states);
/* A row of the queue in groups. */
json_t *admin_survey_json(const struct queue_survey_group *group, enum queue_survey_by by);
/* RFC 3339, or null for 0. */
json_t *admin_time_json(int64_t wall_ns);
/* Index of `word`, or -1. */
int admin_find_name(const char *const *names, size_t count, struct str word);
/* "90", "15m", "2h", "3d" as nanoseconds; false for anything else. */
bool admin_parse_age(struct str text, int64_t *out_ns);
