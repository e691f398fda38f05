/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/settings_relay_shows.c - does a session relay in truth? The proof makes one up and asks.
 *
 * The mail is for a domain that nobody listed, or for a listed one by MX whose recipient nobody
 * knows; or it was so when a step had rewritten it. Nobody is asked: backends say what the session
 * states, and else give no answer.
 */
#include "directory/stated.h"
#include "gateway/rehearsal.h"
#include "gateway/settings_internal.h"

static struct str local_of(struct str address)
{
    return str_slice(address, 0, (size_t)str_find_last(address, '@'));
}

static struct str domain_of(struct str address)
{
    return str_from(address, (size_t)(str_find_last(address, '@') + 1));
}

/* Held mail gets out when somebody lets it; a queued message was taken whatever comes of it. */
static bool gets_out(const struct rehearsal *out, bool queued, bool held)
{
    static const struct str stays[] = {{"reject", 6}, {"defer", 5}, {"discard", 7}};
    struct str action = str_c(out->content_action);
    bool is_held = str_equal(action, STR("hold")) || str_equal(action, STR("quarantine"));
    for (size_t i = 0; i < sizeof stays / sizeof *stays && !queued; i++)
        if (str_equal(action, stays[i]))
            return false;
    return str_equal(str_c(out->recipient), STR("accept")) && (!is_held || held);
}

static bool by_mx(const struct settings *settings, struct str transport)
{
    const struct transport *found = settings_find_transport(settings, transport);
    return found && found->method == TRANSPORT_LOOKUP_MX;
}

static enum flow_shown judge(const struct settings *settings, const struct settings_domain *domain,
                             const struct rehearsal *out, struct str to, bool queued,
                             struct str *out_domain)
{
    bool chose_name = out->sent_to.len && str_equal_nocase(local_of(out->sent_to), local_of(to));
    const struct settings_domain *target = settings_route(settings, domain_of(out->sent_to));
    bool is_own = target == domain && str_equal(out->domain, domain->name);
    if (domain->is_any)
        return gets_out(out, queued, /* held= */ true) ? FLOW_SHOWN_RELAYED : FLOW_SHOWN_NOTHING;
    if (!gets_out(out, /* queued= */ false, is_own && by_mx(settings, out->transport)))
        return FLOW_SHOWN_NOTHING;
    if (chose_name && (!target || target->is_any || str_equal(out->domain, STR("any"))))
        return FLOW_SHOWN_LEFT;
    if (!by_mx(settings, out->transport) || !target)
        return FLOW_SHOWN_NOTHING;
    if (is_own)
        return FLOW_SHOWN_RELAYED;
    *out_domain = target->name;
    return chose_name ? FLOW_SHOWN_PASSED : FLOW_SHOWN_NOTHING;
}

enum flow_shown settings_relay_shows(const struct flow_relay_case *relay,
                                     const struct flow_witness *witness, struct str *out_domain)
{
    const struct settings *settings = relay->context;
    const struct directory_stated nobody = {.source_count = 0};
    const struct settings_listener *listener = settings_find_listener(settings, relay->listener);
    const struct settings_domain *domain =
        listener ? settings_find_domain(settings, listener, witness->facts.recipient_domain) : NULL;
    struct arena *arena = arena_new(0);
    struct directory *directory = directory_stated_new(&nobody);
    struct rehearsal out;
    const struct rehearsal_in in = {.settings = settings,
                                    .listener = listener,
                                    .directory = directory,
                                    .arena = arena,
                                    .client = witness->facts.client,
                                    .client_name = witness->facts.client_name,
                                    .helo = witness->facts.helo,
                                    .tls = witness->facts.tls.len > 0,
                                    .user = STR_EMPTY,
                                    .password = STR_EMPTY,
                                    .has_mail = true,
                                    .from = witness->facts.sender,
                                    .to = witness->facts.recipient,
                                    .more = witness->facts.recipient_count - 1,
                                    .text = witness->text,
                                    .stated = witness->stated,
                                    .stated_count = witness->stated_count};
    enum flow_shown shown = FLOW_SHOWN_NOTHING;
    if (domain) {
        rehearsal_run(&in, &out);
        shown =
            judge(settings, domain, &out, witness->facts.recipient, listener->queued, out_domain);
    }
    directory_stated_free(directory);
    arena_free(arena); /* the domain's name is the settings' own */
    return shown;
}
