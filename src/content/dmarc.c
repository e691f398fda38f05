/* SPDX-License-Identifier: Apache-2.0 */
#include "content/dmarc.h"

#include "base/clock.h"

enum { LABELS_AFTER_CUT = 7, NOTES_MAX = DMARC_BUDGET };

/* A name that was asked for; walks of one message share what they found. */
struct note {
    struct str domain;
    bool has_record;
    struct dmarc_record record;
};

struct evaluation {
    struct resolver *resolver;
    struct arena *arena;
    struct note notes[NOTES_MAX];
    size_t note_count;
    struct error err;
};

/* Of a walk from a domain upwards. */
struct walk {
    const struct note *own;     /* of the domain itself, or NULL */
    const struct note *highest; /* with the fewest labels, or where psd stopped it, or NULL */
    struct str organization;
};

const char *dmarc_result_name(enum dmarc_result result)
{
    static const char *const names[] = {"none", "pass", "fail", "temperror", "permerror"};
    return names[result];
}

/* ---- records ---- */

/* The one record at a domain; several are none (4.10). */
static void read_answer(const struct resolver_answer *answer, struct note *note)
{
    const struct str *text = NULL;
    size_t found = 0;
    for (size_t i = 0; i < answer->count; i++) {
        if (!dmarc_record_is_dmarc(answer->texts[i]))
            continue;
        text = &answer->texts[i];
        found++;
    }
    note->has_record = found == 1 && dmarc_record_parse(*text, &note->record);
}

static MAY_YIELD enum result find_record(struct evaluation *evaluation, struct str domain,
                                         const struct note **out)
{
    struct resolver_answer answer;
    for (size_t i = 0; i < evaluation->note_count; i++) {
        *out = &evaluation->notes[i];
        if (str_equal((*out)->domain, domain))
            return OK;
    }
    if (evaluation->note_count == NOTES_MAX)
        return fail(&evaluation->err, ERROR_LIMIT, "too many DMARC records to look for");
    struct str name = arena_printf(evaluation->arena, "_dmarc.%.*s", STR_ARG(domain));
    if (resolver_ask(evaluation->resolver, RESOLVER_TXT, name, evaluation->arena, &answer,
                     &evaluation->err) == FAILED)
        return FAILED;
    struct note *note = &evaluation->notes[evaluation->note_count++];
    note->domain = domain;
    read_answer(&answer, note);
    *out = note;
    return OK;
}

/* ---- the tree walk (4.10) ---- */

static size_t count_labels(struct str domain)
{
    size_t count = 1;
    for (size_t i = 0; i < domain.len; i++)
        count += domain.ptr[i] == '.';
    return count;
}

static struct str parent_of(struct str domain)
{
    ptrdiff_t dot = str_find(domain, '.');
    return dot < 0 ? STR_EMPTY : str_from(domain, (size_t)dot + 1);
}

static struct str next_target(struct str domain, bool is_first)
{
    domain = parent_of(domain);
    while (is_first && count_labels(domain) > LABELS_AFTER_CUT)
        domain = parent_of(domain);
    return domain;
}

/* The name one label longer than `above`, on the way to `domain`. */
static struct str one_below(struct str domain, struct str above)
{
    while (parent_of(domain).len > above.len)
        domain = parent_of(domain);
    return domain;
}

static MAY_YIELD enum result walk_up(struct evaluation *evaluation, struct str start,
                                     struct walk *out)
{
    const struct note *note;
    *out = (struct walk){.organization = start};
    for (struct str domain = start; domain.len;
         domain = next_target(domain, domain.ptr == start.ptr)) {
        if (find_record(evaluation, domain, &note) == FAILED)
            return FAILED;
        if (!note->has_record)
            continue;
        bool is_own = domain.len == start.len;
        if (is_own)
            out->own = note;
        out->highest = note;
        out->organization = note->record.psd == DMARC_PSD_YES && !is_own
                                ? one_below(start, domain)
                                : str_from(start, start.len - domain.len);
        if (note->record.psd != DMARC_PSD_UNKNOWN)
            break;
    }
    return OK;
}

/* ---- alignment (4.4, 4.10.2) ---- */

static bool is_at_or_below(struct str domain, struct str above)
{
    return str_equal(domain, above) || (domain.len > above.len && str_ends(domain, above) &&
                                        domain.ptr[domain.len - above.len - 1] == '.');
}

static MAY_YIELD enum result is_aligned(struct evaluation *evaluation, struct str domain,
                                        struct str author, struct str organization, bool strict,
                                        bool *out)
{
    struct walk walk;
    *out = str_equal(domain, author);
    /* what is outside the author's organization need not be asked for its own */
    if (*out || strict || !is_at_or_below(domain, organization))
        return OK;
    if (walk_up(evaluation, domain, &walk) == FAILED)
        return FAILED;
    *out = str_equal(walk.organization, organization);
    return OK;
}

static MAY_YIELD enum result align(struct evaluation *evaluation,
                                   const struct dmarc_request *request,
                                   const struct dmarc_record *record, struct dmarc_outcome *out)
{
    if (request->spf == SPF_PASS &&
        is_aligned(evaluation, request->spf_domain, out->author_domain, out->organization,
                   record->strict_spf, &out->spf_aligned) == FAILED)
        return FAILED;
    for (size_t i = 0;
         i < request->dkim_domain_count && i < DMARC_IDENTIFIERS_MAX && !out->dkim_aligned; i++)
        if (is_aligned(evaluation, request->dkim_domains[i], out->author_domain, out->organization,
                       record->strict_dkim, &out->dkim_aligned) == FAILED)
            return FAILED;
    return OK;
}

/* Might it have passed, had DNS answered? Only for a domain that would have been aligned: others
 * could not have helped. */
static MAY_YIELD enum result is_unsure(struct evaluation *evaluation,
                                       const struct dmarc_request *request,
                                       const struct dmarc_record *record,
                                       const struct dmarc_outcome *outcome, bool *out)
{
    if (request->spf == SPF_TEMPERROR &&
        is_aligned(evaluation, request->spf_domain, outcome->author_domain, outcome->organization,
                   record->strict_spf, out) == FAILED)
        return FAILED;
    for (size_t i = 0; i < request->unsure_domain_count && i < DMARC_IDENTIFIERS_MAX && !*out; i++)
        if (is_aligned(evaluation, request->unsure_domains[i], outcome->author_domain,
                       outcome->organization, record->strict_dkim, out) == FAILED)
            return FAILED;
    return OK;
}

/* The common case, for which no walk is needed (4.10.2): the author's domain has a record, and one
 * of the identifiers is that domain. */
static MAY_YIELD enum result align_exactly(struct evaluation *evaluation,
                                           const struct dmarc_request *request,
                                           struct dmarc_outcome *out)
{
    const struct note *note;
    struct str author = out->author_domain;
    bool spf = request->spf == SPF_PASS && str_equal(request->spf_domain, author), dkim = false;
    for (size_t i = 0; i < request->dkim_domain_count && i < DMARC_IDENTIFIERS_MAX; i++)
        dkim = dkim || str_equal(request->dkim_domains[i], author);
    if (request->author->kind != AUTHOR_CLEAR || (!spf && !dkim))
        return OK;
    if (find_record(evaluation, author, &note) == FAILED)
        return FAILED;
    if (!note->has_record)
        return OK;
    out->result = DMARC_PASS;
    out->spf_aligned = spf;
    out->dkim_aligned = dkim;
    out->policy = note->record.p;
    out->testing = note->record.testing;
    out->policy_domain = out->organization = author;
    return OK;
}

/* ---- policy (4.10.1) ---- */

/* np for a domain that does not exist: DNS says "no such name" (RFC 8020). */
static MAY_YIELD enum result exists(struct evaluation *evaluation, struct str domain, bool *out)
{
    struct resolver_answer answer;
    if (resolver_ask(evaluation->resolver, RESOLVER_A, domain, evaluation->arena, &answer,
                     &evaluation->err) == FAILED)
        return FAILED;
    *out = answer.status != DNS_NO_NAME;
    return OK;
}

/* What the record says of the author's domain; np only matters if there is something to refuse. */
static MAY_YIELD enum result choose_policy(struct evaluation *evaluation, const struct walk *walk,
                                           const struct note *note, struct dmarc_outcome *out)
{
    const struct dmarc_record *record = &note->record;
    bool there = true;
    out->policy = record->p;
    out->testing = record->testing;
    out->policy_domain = note->domain;
    if (note == walk->own)
        return OK;
    if (record->sp)
        out->policy = record->sp;
    if (!record->np || record->np == out->policy || out->result == DMARC_PASS)
        return OK;
    if (exists(evaluation, out->author_domain, &there) == FAILED)
        return FAILED;
    if (!there)
        out->policy = record->np;
    return OK;
}

/* The record that counts: of the author's domain, else of its organization, else of the public
 * suffix above that. */
static MAY_YIELD enum result discover(struct evaluation *evaluation, struct str author,
                                      struct walk *walk, const struct note **out)
{
    if (walk_up(evaluation, author, walk) == FAILED)
        return FAILED;
    *out = walk->own;
    if (*out || !walk->highest)
        return OK;
    *out = walk->highest;
    if (walk->highest->record.psd != DMARC_PSD_YES)
        return OK;
    for (size_t i = 0; i < evaluation->note_count; i++)
        if (evaluation->notes[i].has_record &&
            str_equal(evaluation->notes[i].domain, walk->organization))
            *out = &evaluation->notes[i];
    return OK;
}

static enum dmarc_policy milder(enum dmarc_policy policy)
{
    return policy > DMARC_POLICY_NONE ? policy - 1 : policy;
}

/* ---- one author domain ---- */

static MAY_YIELD enum result check_domain(struct evaluation *evaluation,
                                          const struct dmarc_request *request,
                                          struct dmarc_outcome *out)
{
    struct walk walk;
    const struct note *note;
    if (align_exactly(evaluation, request, out) == FAILED)
        return FAILED;
    if (out->result == DMARC_PASS)
        return OK;
    if (discover(evaluation, out->author_domain, &walk, &note) == FAILED)
        return FAILED;
    out->organization = walk.organization;
    if (!note)
        return OK;
    if (request->author->kind == AUTHOR_CLEAR &&
        align(evaluation, request, &note->record, out) == FAILED)
        return FAILED;
    out->result = out->spf_aligned || out->dkim_aligned ? DMARC_PASS : DMARC_FAIL;
    if (choose_policy(evaluation, &walk, note, out) == FAILED)
        return FAILED;
    if (out->result == DMARC_PASS)
        return OK;
    bool unsure = false;
    if (request->author->kind == AUTHOR_CLEAR &&
        is_unsure(evaluation, request, &note->record, out, &unsure) == FAILED)
        return FAILED;
    if (unsure)
        return fail(&evaluation->err, ERROR_TEMPORARY, "SPF or DKIM could not be checked now");
    out->disposition = out->testing ? milder(out->policy) : out->policy;
    return OK;
}

/* ---- the message ---- */

/* Of a From with several domains: was what may be asked used up by others of them? */
static bool is_used_up(const struct resolver *resolver, const struct evaluation *evaluation)
{
    return evaluation->err.kind == ERROR_LIMIT ||
           (resolver->deadline_ns && clock_monotonic_ns() >= resolver->deadline_ns);
}

void dmarc_check(struct resolver *resolver, const struct dmarc_request *request,
                 struct arena *arena, struct dmarc_outcome *out)
{
    const struct author *author = request->author;
    struct evaluation *evaluation = ARENA_NEW(arena, struct evaluation);
    *evaluation = (struct evaluation){.resolver = resolver, .arena = arena};
    *out = (struct dmarc_outcome){.result = DMARC_NONE};
    bool unseen = author->cut;
    for (size_t i = 0; i < author->domain_count; i++) {
        struct dmarc_outcome one = {.author_domain = author->domains[i]};
        if (check_domain(evaluation, request, &one) == FAILED) {
            one.result = DMARC_TEMPERROR;
            one.problem = arena_str(arena, str_c(evaluation->err.text));
            unseen = unseen || is_used_up(resolver, evaluation);
        }
        if (i == 0 || one.disposition > out->disposition ||
            (out->result == DMARC_NONE && one.result != DMARC_NONE))
            *out = one;
    }
    if (unseen && author->kind == AUTHOR_AMBIGUOUS) {
        out->result = DMARC_FAIL;
        out->policy = out->disposition = DMARC_POLICY_REJECT;
        out->unseen = true;
    }
    if (author->kind == AUTHOR_NONE) {
        out->result = DMARC_PERMERROR;
        out->problem = STR("From has no address");
    } else if (author->kind == AUTHOR_AMBIGUOUS) {
        if (out->result == DMARC_NONE)
            out->result = DMARC_PERMERROR;
        if (out->result != DMARC_TEMPERROR)
            out->problem = arena_printf(arena, "From: %s", author->problem);
    }
}
