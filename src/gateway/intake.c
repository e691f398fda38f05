/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/intake.h"

#include "base/memory.h"
#include "spool/spool.h"

#include <stdlib.h>

enum {
    IN_MEMORY_MAX = 256 * 1024, /* what the log writes with the commit unit */
    SMALL_MAX = 16 * 1024,      /* every session may hold that much */
    SHARE = IN_MEMORY_MAX,      /* what a larger body may take, here or in the spool's buffer */
};

struct intake {
    struct body body; /* the face towards the decoder */
    struct body *inner;
    struct spool *spool;
    struct intake_budget *budget;
    bool has_share;
    bool in_spool;
};

void intake_budget_init(struct intake_budget *budget, uint64_t bytes)
{
    cond_init(&budget->freed);
    budget->shares = bytes > SHARE ? (size_t)(bytes / SHARE) : 1;
}

static enum result take_share(struct intake *intake, struct error *err) MAY_YIELD
{
    struct intake_budget *budget = intake->budget;
    while (budget->shares == 0) {
        if (cond_wait(&budget->freed, err) != OK)
            return FAILED;
    }
    budget->shares--;
    intake->has_share = true;
    return OK;
}

static void give_back_share(struct intake *intake)
{
    if (!intake->has_share)
        return;
    intake->has_share = false;
    intake->budget->shares++;
    cond_signal(&intake->budget->freed);
}

/* Copy what is in memory to a body in the spool and go on there. */
static enum result move_to_spool(struct intake *intake, struct error *err) MAY_YIELD
{
    struct body *spooled = NULL;
    if (body_seal(intake->inner, err) != OK || spool_body_new(intake->spool, &spooled, err) != OK)
        return FAILED;
    uint64_t offset = 0;
    struct str data;
    do {
        if (body_read(intake->inner, offset, 64 * 1024, NULL, &data, err) != OK ||
            (data.len && body_append(spooled, data, err) != OK)) {
            body_unref(spooled);
            return FAILED;
        }
        offset += data.len;
    } while (data.len);
    body_unref(intake->inner);
    intake->inner = spooled;
    intake->in_spool = true;
    return OK;
}

NO_YIELD_CHECK static enum result append(struct body *body, struct str data, struct error *err)
{
    struct intake *intake = CONTAINER(body, struct intake, body);
    uint64_t size = body->size + data.len;
    if (!intake->has_share && size > SMALL_MAX && take_share(intake, err) != OK)
        return FAILED;
    if (!intake->in_spool && size > IN_MEMORY_MAX && move_to_spool(intake, err) != OK)
        return FAILED;
    if (body_append(intake->inner, data, err) != OK)
        return FAILED;
    body->size += data.len;
    return OK;
}

/* The decoder seals when the message is complete; the inner body is sealed in intake_finish(), so
 * that a message that is refused costs no more. */
static enum result seal(struct body *body, struct error *err)
{
    (void)body;
    (void)err;
    return OK;
}

NO_YIELD_CHECK static enum result read_inner(struct body *body, uint64_t offset, size_t size,
                                             char *space, struct str *out_data, struct error *err)
{
    return body_read(CONTAINER(body, struct intake, body)->inner, offset, size, space, out_data,
                     err);
}

static void release(struct body *body)
{
    struct intake *intake = CONTAINER(body, struct intake, body);
    give_back_share(intake);
    body_unref(intake->inner);
    free(intake);
}

static const struct body_ops intake_ops = {
    .append = append,
    .seal = seal,
    .read = read_inner,
    .release = release,
};

struct body *intake_new(struct spool *spool, struct intake_budget *budget)
{
    struct intake *intake = NEW(struct intake);
    intake->body.ops = &intake_ops;
    atomic_init(&intake->body.references, 1);
    intake->inner = body_memory_new(IN_MEMORY_MAX);
    intake->spool = spool;
    intake->budget = budget;
    return &intake->body;
}

enum result intake_finish(struct body *body, struct body **out_body, struct error *err)
{
    struct intake *intake = CONTAINER(body, struct intake, body);
    if (body_seal(intake->inner, err) != OK)
        return FAILED;
    *out_body = body_ref(intake->inner);
    return OK;
}
