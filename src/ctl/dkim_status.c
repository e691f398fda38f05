/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/dkim_status.c - `postern dkim status`: does DNS show the keys of a configuration?
 *
 * A key is taken into use once the world can see it: publish, wait, then `active: true`.
 */
#include "base/clock.h"
#include "ctl/ctl.h"
#include "ctl/dkim.h"
#include "ctl/list.h"
#include "fiber/loop.h"
#include "gateway/dkim_dns.h"
#include "gateway/settings.h"

#include <stdio.h>
#include <stdlib.h>

enum { WAIT_MAX_S = 7 * 86400, PAUSE_S = 5 };

struct looking {
    struct ctl *ctl;
    const struct settings *settings;
    struct loop *loop;
    int64_t deadline_ns;
    enum dkim_shown *shown; /* one a key */
    const char *domain;
    struct error err;
    bool failed;
};

static bool is_wanted(const struct looking *looking, const struct signing_key *key)
{
    return !looking->domain || str_equal_nocase(key->domain, str_c(looking->domain));
}

/* With a resolver of its own each time, so that what was missing is not remembered. */
static MAY_YIELD bool look_at_all(struct looking *looking)
{
    const struct signing_keys *keys = &looking->settings->dkim_keys;
    struct dns *dns = NULL;
    bool all = true;
    if (dns_new(looking->loop, &looking->settings->dns, &dns, &looking->err) != OK) {
        looking->failed = true;
        return true;
    }
    for (size_t i = 0; i < keys->count; i++) {
        if (!is_wanted(looking, &keys->items[i]))
            continue;
        looking->shown[i] = dkim_dns_look(dns, &keys->items[i]);
        all = all && looking->shown[i] == DKIM_SHOWN_PUBLISHED;
    }
    dns_free(dns);
    return all;
}

static MAY_YIELD void run(struct loop *loop, void *arg)
{
    struct looking *looking = arg;
    looking->loop = loop;
    struct error err;
    while (!look_at_all(looking) && clock_monotonic_ns() < looking->deadline_ns &&
           fiber_sleep(PAUSE_S * NS_PER_S, &err) == OK)
        ;
}

static void print_key(const struct looking *looking, const struct signing_key *key,
                      enum dkim_shown shown)
{
    if (!looking->ctl->json) {
        printf("%-16.*s %-14.*s %-24.*s %-6s %s\n", STR_ARG(key->name), STR_ARG(key->selector),
               STR_ARG(key->domain), key->active ? "signs" : "waits", dkim_shown_words[shown]);
        return;
    }
    json_t *item =
        json_pack("{s:s%, s:s%, s:s%, s:b, s:s}", "key", key->name.ptr, key->name.len, "domain",
                  key->domain.ptr, key->domain.len, "selector", key->selector.ptr,
                  key->selector.len, "active", key->active, "dns", dkim_shown_words[shown]);
    ctl_print_item(looking->ctl, item, NULL);
    json_decref(item);
}

/* Yes: all keys that sign are to be seen, and with --wait all others too. */
static int tell(const struct looking *looking, bool waited)
{
    const struct signing_keys *keys = &looking->settings->dkim_keys;
    int code = CTL_YES;
    ctl_dkim_tell_none(looking->settings);
    for (size_t i = 0; i < keys->count; i++) {
        if (!is_wanted(looking, &keys->items[i]))
            continue;
        print_key(looking, &keys->items[i], looking->shown[i]);
        if ((keys->items[i].active || waited) && looking->shown[i] != DKIM_SHOWN_PUBLISHED)
            code = looking->shown[i] == DKIM_SHOWN_NO_ANSWER ? CTL_TRY_AGAIN : CTL_NO;
    }
    return code;
}

int ctl_dkim_status(struct ctl *ctl)
{
    const char *wait = ctl_option(ctl, "--wait");
    uint64_t seconds = 0;
    struct looking looking = {.ctl = ctl, .domain = ctl_option(ctl, "--domain")};
    ctl_arguments(ctl, 0, 1);
    if (wait && !str_to_uint(str_c(wait), WAIT_MAX_S, &seconds)) {
        fprintf(stderr, "postern: --wait is a number of seconds\n");
        return CTL_USAGE;
    }
    struct settings *settings = ctl_dkim_settings(ctl, NULL);
    if (!settings)
        return CTL_NO;
    looking.settings = settings;
    looking.deadline_ns = clock_deadline((int64_t)seconds * NS_PER_S);
    looking.shown =
        arena_alloc_array(ctl->arena, settings->dkim_keys.count + 1, sizeof *looking.shown);
    int code = CTL_NO;
    if (ctl_on_loop(run, &looking, &looking.err) == OK && !looking.failed)
        code = tell(&looking, wait != NULL);
    else
        fprintf(stderr, "postern: %s\n", looking.err.text);
    settings_unref(settings);
    return code;
}
