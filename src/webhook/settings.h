/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook/settings.h - the section `webhooks`: where events are sent, which, and signed with what.
 */
#pragma once

#include "net/server.h"
#include "webhook/choice.h"
#include "webhook/payload.h"
#include "webhook/signature.h"

enum { WEBHOOKS_MAX = 32, WEBHOOK_CONCURRENCY_MAX = 4, WEBHOOK_NAME_MAX = 64 };

struct webhook_settings {
    struct str name;
    /* ---- as written ---- */
    struct str url;
    struct option_texts secret_files;
    struct option_texts events;
    struct str expression;
    struct str ca_file;
    bool allow_cleartext;
    int payload; /* enum webhook_payload */
    int64_t timeout_ns;
    int64_t give_up_ns;
    int64_t concurrency;
    int64_t waiting; /* deliveries that wait, at most */
    uint64_t size;   /* of them */
    /* ---- what was made of it ---- */
    struct server_endpoint endpoint;
    struct str origin; /* "https://host:port": what may be shown, for a path can be a secret */
    struct tls_context *tls;                            /* NULL: http */
    struct webhook_secret secrets[WEBHOOK_SECRETS_MAX]; /* the new one first */
    size_t secret_count;
    struct webhook_choice choice;
    struct config_place place;
    const struct config_node *node;
};

/* What binding lends: servers whose trusted certificates can be shared, and where the paths of
 * files go whose change is to be noticed. */
struct webhook_neighbours {
    const struct server *servers;
    size_t server_count;
    struct option_paths *files;
};

/* Read the section (NULL: there is none) into an array in the context's arena; problems go to the
 * report. Reads the secrets. */
void webhook_settings_bind(const struct config_node *section, const struct option_context *context,
                           const struct webhook_neighbours *neighbours,
                           struct webhook_settings **out, size_t *out_count);
extern const struct option_table webhook_options;
