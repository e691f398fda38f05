/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/sealing.c - what lies in a quarantine is encrypted: on the way in, out, and for a look.
 *
 * Only an entry with a content run to come is sealed: it is read by that run, which makes others of
 * it, and never sent itself.
 */
#include "base/check.h"
#include "queue/settle.h"
#include "spool/vault.h"

/* ---- in ---- */

static bool is_to_be_sealed(const struct queue *queue, const struct queue_group *group)
{
    return queue->vault != NULL && group->held && group->kept.quarantine.len > 0 &&
           group->content_flow.len > 0;
}

static void release_body(void *body)
{
    body_unref(body);
}

static bool is_same_content(const struct mail_content *a, const struct mail_content *b)
{
    return a->body == b->body && a->body_start == b->body_start && a->head.ptr == b->head.ptr &&
           a->head.len == b->head.len;
}

struct sealing {
    struct queue *queue;
    struct mail_id message;
    struct arena *arena;
    const struct mail_content *plain; /* of each group, as they came */
};

/* Groups of one run that differ in their transport share what they have. */
static enum result seal_content(const struct sealing *sealing, struct queue_group *groups,
                                size_t at, struct error *err) MAY_YIELD
{
    struct body *body = NULL;
    for (size_t i = 0; i < at && body == NULL; i++)
        if (groups[i].sealed && is_same_content(&sealing->plain[i], &sealing->plain[at]))
            body = groups[i].content.body;
    if (body == NULL) {
        if (spool_vault_seal(sealing->queue->vault, sealing->queue->spool, sealing->message,
                             &sealing->plain[at], &body, err) == FAILED)
            return FAILED;
        arena_hook(sealing->arena, release_body, body);
    }
    groups[at].content = (struct mail_content){.head = STR_EMPTY, .body = body};
    groups[at].sealed = true;
    return OK;
}

enum result queue_seal_groups(struct queue *queue, struct mail_id message,
                              struct queue_group *groups, size_t count, struct arena *arena,
                              struct error *err)
{
    struct mail_content *plain = arena_alloc_array(arena, count + 1, sizeof *plain);
    struct sealing sealing = {queue, message, arena, plain};
    for (size_t i = 0; i < count; i++) {
        struct queue_kept *kept = &groups[i].kept;
        plain[i] = groups[i].content;
        struct str label = kept->label;
        kept->label = STR_EMPTY;
        if (!is_to_be_sealed(queue, &groups[i]))
            continue;
        if (spool_vault_seal_text(queue->vault, message, label, arena, &kept->label, err) ==
                FAILED ||
            seal_content(&sealing, groups, i, err) == FAILED)
            return FAILED;
    }
    return OK;
}

/* ---- a look ---- */

bool queue_can_unseal(const struct queue *queue, const struct queue_meta *meta)
{
    return (meta->flags & QUEUE_META_SEALED) == 0 ||
           (queue->vault != NULL &&
            spool_vault_has(queue->vault, spool_vault_key_of(meta->kept.label)));
}

enum result queue_label_read(const struct queue *queue, const struct queue_meta *meta,
                             struct arena *arena, struct queue_label *out, struct error *err)
{
    struct str text;
    *out = (struct queue_label){STR_EMPTY, STR_EMPTY};
    if (meta->kept.label.len == 0)
        return OK;
    if (queue->vault == NULL)
        return fail(err, ERROR_TEMPORARY, "there are no keys");
    if (spool_vault_open_text(queue->vault, meta->message, meta->kept.label, arena, &text, err) ==
        FAILED)
        return FAILED;
    if (str_split(&text, '\n', &out->subject) && text.ptr != NULL)
        (void)str_split(&text, '\n', &out->author);
    return OK;
}

enum result queue_unseal(struct queue_attempt *attempt, struct error *err)
{
    struct body *sealed = attempt->content.body, *body = NULL;
    const struct queue *queue = attempt->worker->queue;
    if ((attempt->meta.flags & QUEUE_META_SEALED) == 0 || spool_vault_is_unsealed(sealed))
        return OK;
    enum result result =
        queue->vault == NULL
            ? fail(err, ERROR_TEMPORARY, "it is encrypted, and there are no keys")
            : spool_vault_unseal(queue->vault, attempt->meta.message, sealed, &body, err);
    /* without its key nobody may take it for the message */
    attempt->content = (struct mail_content){.head = STR_EMPTY, .body = body};
    body_unref(sealed);
    return result;
}

/* ---- out ---- */

enum result queue_unseal_for_good(struct queue_attempt *attempt, struct queue_content_run *run,
                                  struct error *err)
{
    struct body *unsealed = attempt->content.body, *body = NULL;
    if ((attempt->meta.flags & QUEUE_META_SEALED) == 0)
        return OK;
    check(spool_vault_is_unsealed(unsealed));
    if (spool_vault_copy(attempt->worker->queue->spool, unsealed, &body, err) == FAILED)
        return FAILED;
    for (size_t i = 0; run != NULL && i < run->group_count; i++)
        if (run->groups[i].content.body == unsealed)
            run->groups[i].content.body = body;
    attempt->content.body = body;
    attempt->meta.flags &= ~(unsigned)QUEUE_META_SEALED;
    /* bodies that a step made read this one */
    arena_hook(attempt->arena, release_body, unsealed);
    return OK;
}
