/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_explanations.c - what would become of a message, by the configuration in force. */
#include "admin/routes.h"

#include "admin/explanation.h"
#include "admin/http.h"
#include "gateway/operations.h"

static struct str member(json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_string(value) ? str_of(json_string_value(value), json_string_length(value))
                                 : STR_EMPTY;
}

/* {"address": "anna@example.org", "from", "client", "user", "listener", "tls"} */
void admin_api_explanation_make(struct admin_request *request, struct admin_answer *answer)
{
    json_t *root = request->json;
    const struct explanation_question question = {
        .address = member(root, "address"),
        .has_from = json_is_string(json_object_get(root, "from")),
        .from = member(root, "from"),
        .client = member(root, "client"),
        .user = member(root, "user"),
        .listener = member(root, "listener"),
        .tls = json_is_true(json_object_get(root, "tls")),
    };
    struct error err = {.text = "give an address"};
    struct settings *settings = gateway_settings_ref(request->gateway);
    if (question.address.len)
        answer->json = explanation_make(settings, &question, request->arena, &err);
    if (!answer->json)
        admin_problem(answer, 400, "Bad question", "%s", err.text);
    settings_unref(settings);
}
