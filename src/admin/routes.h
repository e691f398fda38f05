/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/routes.h - the handlers behind the API's paths, a file a noun.
 */
#pragma once

#include "mail/id.h"

#include <jansson.h>
#include <stdbool.h>

struct admin_request;
struct admin_answer;
struct arena;

void admin_api_problem_list(struct admin_request *request, struct admin_answer *answer);
void admin_api_problem_show(struct admin_request *request, struct admin_answer *answer);
void admin_api_metrics(struct admin_request *request, struct admin_answer *answer);
void admin_api_reports_list(struct admin_request *request, struct admin_answer *answer);
void admin_api_reports_send(struct admin_request *request, struct admin_answer *answer);
void admin_api_status(struct admin_request *request, struct admin_answer *answer);
void admin_api_incident_list(struct admin_request *request, struct admin_answer *answer);
void admin_api_incident_show(struct admin_request *request, struct admin_answer *answer);
void admin_api_incident_open(struct admin_request *request, struct admin_answer *answer);
void admin_api_incident_close(struct admin_request *request, struct admin_answer *answer);
void admin_api_queue_list(struct admin_request *request, struct admin_answer *answer);
void admin_api_queue_show(struct admin_request *request, struct admin_answer *answer);
void admin_api_queue_act(struct admin_request *request, struct admin_answer *answer);
void admin_api_queue_freeze(struct admin_request *request, struct admin_answer *answer);
void admin_api_queue_selection(struct admin_request *request, struct admin_answer *answer);
void admin_api_queue_causes(struct admin_request *request, struct admin_answer *answer);
void admin_api_queue_cause(struct admin_request *request, struct admin_answer *answer);
void admin_api_queue_shape(struct admin_request *request, struct admin_answer *answer);
void admin_api_transport_list(struct admin_request *request, struct admin_answer *answer);
void admin_api_transport_show(struct admin_request *request, struct admin_answer *answer);
void admin_api_transport_places(struct admin_request *request, struct admin_answer *answer);
void admin_api_transport_act(struct admin_request *request, struct admin_answer *answer);
void admin_api_transport_test(struct admin_request *request, struct admin_answer *answer);
void admin_api_message_raw(struct admin_request *request, struct admin_answer *answer);
void admin_api_message_events(struct admin_request *request, struct admin_answer *answer);
void admin_api_message_trace(struct admin_request *request, struct admin_answer *answer);
void admin_api_events_find(struct admin_request *request, struct admin_answer *answer);
void admin_api_events_stream(struct admin_request *request, struct admin_answer *answer);
/* Put what the status tells of it into the object. */

void admin_config_add(struct admin_request *request, json_t *status);
/* Does a revision wait for its confirmation, and until when (wall clock; 0: no end)? */
bool admin_config_is_unconfirmed(struct admin_request *request, int64_t *out_confirm_by_ns);
void admin_api_explanation_make(struct admin_request *request, struct admin_answer *answer);
void admin_api_config_show(struct admin_request *request, struct admin_answer *answer);
void admin_api_config_history(struct admin_request *request, struct admin_answer *answer);
void admin_api_config_revision(struct admin_request *request, struct admin_answer *answer);
void admin_api_config_decisions(struct admin_request *request, struct admin_answer *answer);
void admin_api_config_apply(struct admin_request *request, struct admin_answer *answer);
void admin_api_config_confirm(struct admin_request *request, struct admin_answer *answer);
void admin_api_config_rollback(struct admin_request *request, struct admin_answer *answer);
void admin_api_message_send(struct admin_request *request, struct admin_answer *answer);
void admin_api_quarantine_names(struct admin_request *request, struct admin_answer *answer);
void admin_api_quarantine_list(struct admin_request *request, struct admin_answer *answer);
void admin_api_quarantine_show(struct admin_request *request, struct admin_answer *answer);
void admin_api_quarantine_raw(struct admin_request *request, struct admin_answer *answer);
void admin_api_quarantine_act(struct admin_request *request, struct admin_answer *answer);
void admin_api_quarantine_digest(struct admin_request *request, struct admin_answer *answer);
void admin_api_quarantine_key(struct admin_request *request, struct admin_answer *answer);
/* Behind /quarantine/TOKEN, for whoever has the link: a page, no JSON. */
void admin_quarantine_page(struct admin_request *request, struct str method, struct str token,
                           struct admin_answer *answer);
void admin_api_domain_list(struct admin_request *request, struct admin_answer *answer);
void admin_api_user_list(struct admin_request *request, struct admin_answer *answer);
void admin_api_user_create(struct admin_request *request, struct admin_answer *answer);
void admin_api_user_password(struct admin_request *request, struct admin_answer *answer);
void admin_api_user_remove(struct admin_request *request, struct admin_answer *answer);
/* A short hash of a value, for a version. */
struct str admin_tag_of(struct arena *arena, json_t *value);
/* 412, with both versions. */
void admin_say_changed(struct admin_answer *answer, struct str expected, struct str current);
/* Versions of what paths are about. */
struct str admin_users_version(struct admin_request *request);
struct str admin_tokens_version(struct admin_request *request);
struct str admin_transport_version(struct admin_request *request);
struct str admin_config_version(struct admin_request *request);
/* A message that was begun to be taken under this id: was it? Then the answer says what the first
 * one would have. */
bool admin_message_recover(struct admin_request *request, struct mail_id id,
                           struct admin_answer *answer);
void admin_api_webhook_list(struct admin_request *request, struct admin_answer *answer);
void admin_api_webhook_show(struct admin_request *request, struct admin_answer *answer);
void admin_api_webhook_act(struct admin_request *request, struct admin_answer *answer);
void admin_api_webhook_test(struct admin_request *request, struct admin_answer *answer);
void admin_api_webhook_deliveries(struct admin_request *request, struct admin_answer *answer);
void admin_api_webhook_delivery(struct admin_request *request, struct admin_answer *answer);
void admin_api_webhook_retry(struct admin_request *request, struct admin_answer *answer);
void admin_api_openapi(struct admin_request *request, struct admin_answer *answer);
void admin_api_token_list(struct admin_request *request, struct admin_answer *answer);
void admin_api_token_create(struct admin_request *request, struct admin_answer *answer);
void admin_api_token_revoke(struct admin_request *request, struct admin_answer *answer);
