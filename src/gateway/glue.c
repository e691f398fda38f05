/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/glue.h"

#include "base/buf.h"
#include "content/author.h"
#include "content/dkim.h"
#include "content/signing_key.h"
#include "event/event.h"
#include "gateway/contain.h"
#include "gateway/mailboxes.h"
#include "gateway/origin.h"
#include "gateway/loan.h"
#include "gateway/plan.h"
#include "gateway/settings.h"
#include "gateway/worker.h"
#include "mail/header.h"
#include "mail/seven_bit.h"

#include <string.h>

enum {
    HEADER_MAX = 4 * 1024 * 1024, /* limits.header_bytes is less, with what flows have added */
    READ_SIZE = 64 * 1024,
};

static const struct settings *settings_of(const struct queue_snapshot *snapshot)
{
    return (const struct settings *)snapshot;
}

/* On a worker the settings are at hand; other threads (recovery at start) ask the gateway. */
static const struct queue_snapshot *take_snapshot(void *context)
{
    struct gateway *gateway = context;
    struct worker *worker = worker_current();
    if (worker && worker->settings)
        return (const struct queue_snapshot *)settings_ref(worker->settings);
    pthread_mutex_lock(&gateway->mutex);
    const struct settings *settings = settings_ref(gateway->settings);
    pthread_mutex_unlock(&gateway->mutex);
    return (const struct queue_snapshot *)settings;
}

static void release_snapshot(void *context, const struct queue_snapshot *snapshot)
{
    (void)context;
    settings_unref(settings_of(snapshot));
}

static const struct transport *find_transport(const struct queue_snapshot *snapshot,
                                              struct str name)
{
    return settings_find_transport(settings_of(snapshot), name);
}

static struct str route(const struct queue_snapshot *snapshot, struct str domain_name)
{
    const struct settings_domain *domain = settings_route(settings_of(snapshot), domain_name);
    return domain ? domain->transport->name : STR_EMPTY;
}

static struct str hostname(const struct queue_snapshot *snapshot)
{
    return settings_of(snapshot)->hostname;
}

static struct str postmaster(const struct queue_snapshot *snapshot)
{
    return settings_of(snapshot)->postmaster;
}

static bool is_own_address(const struct queue_snapshot *snapshot, const struct net_address *address)
{
    return settings_is_own_address(settings_of(snapshot), address);
}

static struct str provider(const struct queue_snapshot *snapshot, struct str host)
{
    return settings_provider(settings_of(snapshot), host);
}

static bool is_own_port(const struct queue_snapshot *snapshot, uint16_t port)
{
    const struct settings *settings = settings_of(snapshot);
    for (size_t i = 0; i < settings->listener_count; i++) {
        for (size_t k = 0; k < settings->listeners[i].address_count; k++) {
            if (settings->listeners[i].addresses[k].port == port)
                return true;
        }
    }
    return false;
}

/* What we write ourselves gets the signatures that mail of the same author gets. A fault costs the
 * signature, not the message. */
static struct str sign(const struct queue_snapshot *snapshot, const struct mail_content *content,
                       struct arena *arena) MAY_YIELD
{
    const struct signing_keys *keys = &settings_of(snapshot)->dkim_keys;
    const struct signing_key *key;
    struct str header = str_slice(content->head, 0, mail_header_length(content->head));
    struct str fields = STR_EMPTY;
    struct author author;
    struct dkim_message message;
    struct error unread;
    size_t cursor = 0;
    author_read(header, arena, &author);
    if (author.kind != AUTHOR_CLEAR)
        return fields;
    struct str domain = signing_keys_domain(keys, author.domains[0]);
    bool has_eight_bit = true;
    if (settings_of(snapshot)->signs_seven_bit &&
        (mail_has_eight_bit(content, &has_eight_bit, &unread) != OK || has_eight_bit))
        return fields; /* a transport may have to convert it, which it does not if it is signed */
    dkim_message_init(&message, content, header);
    while ((key = signing_keys_next(keys, domain, &cursor)) != NULL) {
        struct dkim_signer signer = {.domain = key->domain,
                                     .selector = key->selector,
                                     .key = key->key,
                                     .header = DKIM_RELAXED,
                                     .body = DKIM_RELAXED};
        struct str field;
        struct error err;
        if (dkim_sign(&message, &signer, arena, &field, &err) == OK)
            fields = arena_printf(arena, "%.*s%.*s", STR_ARG(fields), STR_ARG(field));
        else
            event_emit(EVENT_DAEMON_WARNING, F_STR(OBJECT, key->name), F_C(ERROR, err.text),
                       F_C(DETAIL, "a message of ours could not be signed"));
    }
    return fields;
}

/* ---- processing: queued ---- */

/* The header section of the message as it is now, in the run's arena. */
static enum result read_header(struct queue_content_run *run, struct str *out,
                               struct error *err) MAY_YIELD
{
    const struct mail_content *content = run->content;
    char *piece = arena_alloc(run->arena, READ_SIZE);
    struct buf text BUF_CLEANUP;
    size_t end = 0;
    buf_init(&text, HEADER_MAX);
    while (end == 0) {
        struct str data;
        if (mail_content_read(content, text.len, READ_SIZE, piece, &data, err) != OK)
            return FAILED;
        buf_append(&text, data);
        if (data.len == 0 || text.overflow)
            break;
        end = mail_header_length(buf_str(&text));
    }
    *out = arena_str(run->arena, end ? str_slice(buf_str(&text), 0, end) : buf_str(&text));
    return OK;
}

static enum queue_content_verdict verdict_of(enum flow_verdict_kind kind)
{
    switch (kind) {
    case FLOW_ACCEPT:
    case FLOW_DELIVER:
        return QUEUE_CONTENT_DELIVER;
    case FLOW_REJECT:
        return QUEUE_CONTENT_REJECT;
    case FLOW_DISCARD:
        return QUEUE_CONTENT_DISCARD;
    case FLOW_HOLD:
    case FLOW_QUARANTINE:
        return QUEUE_CONTENT_HOLD;
    case FLOW_DEFER:
        break;
    }
    return QUEUE_CONTENT_DEFER;
}

/* What becomes of a refusal when the client has gone: only an own user is told, and only at an
 * address of ours; anything else could be backscatter. */
static enum queue_content_verdict refused_later(const struct settings *settings,
                                                const struct flow_facts *facts)
{
    bool own_user = facts->authenticated || facts->trusted;
    if (own_user && facts->sender.len && settings_is_listed(settings, facts->sender_domain))
        return QUEUE_CONTENT_REJECT;
    const struct settings_listener *listener = settings_find_listener(settings, facts->listener);
    bool discard = listener && listener->refused_later == SETTINGS_REFUSED_DISCARD;
    return discard ? QUEUE_CONTENT_DISCARD : QUEUE_CONTENT_HOLD;
}

/* The run's verdict and effects as groups, in place of the entry. */
/* False: a quarantine has no room. */
static bool make_groups(struct queue *queue, const struct settings *settings,
                        const struct flow *flow, const struct flow_verdict *verdict,
                        enum queue_content_verdict said, struct str header,
                        struct queue_content_run *run)
{
    struct str *transports =
        arena_alloc_array(run->arena, run->recipient_count + 1, sizeof *transports);
    for (size_t i = 0; i < run->recipient_count; i++)
        transports[i] = run->transport;
    struct plan_source source = {
        .settings = settings,
        .flow = flow,
        .verdict = verdict,
        .content = run->content,
        .header = header,
        .sender = run->sender,
        .recipients = run->recipients,
        .transports = transports,
        .recipient_count = run->recipient_count,
    };
    struct plan plan;
    struct error err;
    plan_init(&plan, run->arena);
    if (said == QUEUE_CONTENT_DELIVER || said == QUEUE_CONTENT_HOLD)
        plan_add(&plan, &source);
    plan_add_extras(&plan, &source);
    run->groups = plan.groups;
    run->group_count = plan.group_count;
    run->added = plan.added;
    run->discarded = plan.discarded;
    return plan_fits_quarantines(&plan, settings, queue, &err);
}

static void tell_restarted(const struct queue_content_run *run, struct str flow)
{
    event_emit(EVENT_FLOW_RESTARTED, F_C(MESSAGE, mail_id_text(run->message).chars),
               F_STR(FLOW, flow), F_STR(STEP, run->after_step));
}

/* It was released, and the flow that kept it is gone: it begins with those that its recipients'
 * domains have now. */
static bool begin_anew(const struct settings *settings, struct queue_content_run *run)
{
    run->groups = arena_alloc_array(run->arena, run->recipient_count + 1, sizeof *run->groups);
    for (size_t i = 0; i < run->recipient_count; i++) {
        const struct settings_domain *domain = settings_route(settings, run->recipients[i].domain);
        if (!domain)
            return false;
        run->groups[run->group_count++] =
            (struct queue_group){.content = *run->content,
                                 .transport = domain->transport->name,
                                 .content_flow = flow_name(domain->content),
                                 .recipients = &run->recipients[i],
                                 .recipient_count = 1};
        tell_restarted(run, flow_name(domain->content));
    }
    return true;
}

NO_YIELD_CHECK static enum queue_content_verdict run_content(void *context,
                                                             const struct queue_snapshot *snapshot,
                                                             struct queue_content_run *run,
                                                             struct mail_reply *out_reply)
{
    struct gateway *gateway = context;
    struct flow_facts facts;
    struct error err;
    const struct flow *flow = flow_find(settings_of(snapshot)->flows, FLOW_CONTENT, run->flow);
    if (!flow && run->after_step.len && begin_anew(settings_of(snapshot), run))
        return QUEUE_CONTENT_DELIVER;
    if (!flow) {
        *out_reply = mail_reply_of(451, 4, 3, 5, STR("The content flow is no longer configured"));
        return QUEUE_CONTENT_DEFER;
    }
    if (!origin_decode(run->arena, run->origin, &facts)) {
        *out_reply = mail_reply_of(451, 4, 3, 0, STR("The message's origin is damaged"));
        return QUEUE_CONTENT_HOLD;
    }
    facts.message = run->message;
    facts.recipients = run->recipients;
    facts.recipient_count = run->recipient_count;
    facts.size = mail_content_size(run->content);
    if (read_header(run, &facts.header, &err) != OK) { /* no flow judges what it cannot see */
        *out_reply = mail_reply_of(451, 4, 3, 0, STR("The message cannot be read now"));
        return QUEUE_CONTENT_DEFER;
    }
    struct loan loan;
    loan_init(&loan, worker_current(), settings_of(snapshot), run->arena, &facts);
    loan.run.after_step = run->after_step;
    loan.run.released = run->released;
    loan.run.content = run->content;
    struct flow_verdict verdict = {0};
    if (run->after_step.len && !flow_has_step(flow, run->after_step))
        tell_restarted(run, flow_name(flow));
    flow_run_content(flow, &loan.run, &verdict);
    contain_by_verdict(gateway, settings_of(snapshot), &facts, flow_name(flow), &verdict);
    *out_reply = verdict.reply;
    enum queue_content_verdict said = verdict.kind == FLOW_REJECT
                                          ? refused_later(settings_of(snapshot), &facts)
                                          : verdict_of(verdict.kind);
    if (said == QUEUE_CONTENT_DEFER ||
        make_groups(gateway->queue, settings_of(snapshot), flow, &verdict, said, facts.header, run))
        return said;
    *out_reply = mail_reply_of(452, 4, 3, 1, STR("The quarantine is full"));
    return QUEUE_CONTENT_DEFER;
}

/* ---- scripts around attempts ---- */

static const struct flow_attempt_script *find_script(const struct settings *settings,
                                                     const struct transport *transport)
{
    for (size_t i = 0; i < settings->transport_count; i++)
        if (str_equal(settings->transports[i].name, transport->name))
            return settings->attempt_scripts[i];
    return NULL;
}

static struct flow_attempt describe_attempt(const struct queue_hook *hook)
{
    static const char *const outcomes[] = {[QUEUE_HOOK_OPEN] = "open",
                                           [QUEUE_HOOK_DELIVERED] = "delivered",
                                           [QUEUE_HOOK_DEFERRED] = "deferred",
                                           [QUEUE_HOOK_FAILED] = "failed"};
    struct flow_attempt_recipient *recipients =
        arena_alloc_array(hook->arena, hook->recipient_count + 1, sizeof *recipients);
    for (size_t i = 0; i < hook->recipient_count; i++)
        recipients[i] = (struct flow_attempt_recipient){
            .address = hook->recipients[i].address,
            .reply = hook->recipients[i].reply,
            .host = hook->recipients[i].mta,
            .outcome = outcomes[hook->recipients[i].outcome],
        };
    return (struct flow_attempt){
        .after = hook->after,
        .message = hook->message,
        .session = hook->session,
        .sender = hook->sender->address,
        .recipients = recipients,
        .recipient_count = hook->recipient_count,
        .transport = hook->transport->name,
        .destination = hook->destination,
        .host = hook->host,
        .number = hook->attempt,
        .age_ns = hook->age_ns,
        .size = hook->size,
    };
}

/* A fault before an attempt puts it off, unless the file says otherwise; after one, what happened
 * counts. */
static void take_said(const struct flow_attempt_said *said, struct queue_hook *hook)
{
    if (said->fault) {
        if (!hook->after && hook->transport->script.on_error == TRANSPORT_ON_ERROR_DEFER) {
            hook->verdict = QUEUE_HOOK_DEFER;
            hook->said = mail_reply_of(451, 4, 3, 5, STR("The transport's script failed"));
        }
        return;
    }
    hook->said = said->reply;
    hook->delay_ns = said->delay_ns;
    hook->server = said->server;
    hook->verdict = said->kind == FLOW_ATTEMPT_DEFER    ? QUEUE_HOOK_DEFER
                    : said->kind == FLOW_ATTEMPT_REJECT ? QUEUE_HOOK_REJECT
                    : said->kind == FLOW_ATTEMPT_HOLD   ? QUEUE_HOOK_HOLD
                    : said->kind == FLOW_ATTEMPT_ROUTE  ? QUEUE_HOOK_ROUTE
                                                        : QUEUE_HOOK_NEXT;
}

NO_YIELD_CHECK static void run_hook(void *context, const struct queue_snapshot *snapshot,
                                    struct queue_hook *hook)
{
    (void)context; /* the worker knows its gateway */
    const struct settings *settings = settings_of(snapshot);
    const struct flow_attempt_script *script = find_script(settings, hook->transport);
    if (!script)
        return;
    struct loan loan;
    loan_init(&loan, worker_current(), settings, hook->arena, /* facts= */ NULL);
    struct flow_attempt attempt = describe_attempt(hook);
    struct flow_attempt_said said;
    flow_attempt_run(script, &loan.run, &attempt, &said);
    take_said(&said, hook);
}

static void delivered_inbound(void *context, struct str address)
{
    struct gateway *gateway = context;
    mailboxes_note(gateway->mailboxes, gateway->state, address);
}

static enum queue_account account(void *context, struct str user)
{
    struct incidents *incidents = ((struct gateway *)context)->incidents;
    if (incidents_contains(incidents, user, NULL))
        return QUEUE_ACCOUNT_CONTAINED;
    return incidents_settles(incidents, user) ? QUEUE_ACCOUNT_SETTLING : QUEUE_ACCOUNT_FREE;
}

void glue_fill_handler(struct gateway *gateway, struct queue_handler *out)
{
    *out = (struct queue_handler){
        .take_snapshot = take_snapshot,
        .release_snapshot = release_snapshot,
        .transport = find_transport,
        .route = route,
        .hostname = hostname,
        .sign = sign,
        .postmaster = postmaster,
        .is_own_address = is_own_address,
        .is_own_port = is_own_port,
        .provider = provider,
        .run_content = run_content,
        .hook = run_hook,
        .account = account,
        .delivered_inbound = delivered_inbound,
        .context = gateway,
    };
}
