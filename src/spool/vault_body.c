/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool/vault_body.c - sealed bodies: header, then pieces, each sealed by itself, so that any part
 * can be read without the rest. A piece is bound to its place and to the header, which tells the
 * size: nothing can be left out, moved or cut off.
 */
#include "base/check.h"
#include "base/memory.h"
#include "base/random.h"
#include "spool/bytes.h"
#include "spool/spool.h"
#include "spool/vault_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    HEADER = 8 + 8 + SPOOL_VAULT_SALT_SIZE + 8,
    PIECE = 16 * 1024,
    STRIDE = PIECE + AEAD_TAG_SIZE,
    AT_ONCE = 64, /* pieces, then other fibers have their turns */
};
static const char magic[8] = {'P', 'S', 'E', 'A', 'L', 'E', 'D', '1'};

struct form { /* of one sealed body */
    unsigned char header[HEADER];
    unsigned char key[AEAD_KEY_SIZE];
    uint64_t size; /* of what is in it */
};

static uint64_t pieces_of(uint64_t size)
{
    return size ? (size + PIECE - 1) / PIECE : 1; /* an empty one has its tag, too */
}

uint64_t spool_vault_plain_size(uint64_t sealed_size)
{
    uint64_t rest = sealed_size > HEADER ? sealed_size - HEADER : 0;
    uint64_t tags = (rest + STRIDE - 1) / STRIDE * AEAD_TAG_SIZE;
    return rest > tags ? rest - tags : 0;
}

static size_t size_of_piece(const struct form *form, uint64_t index)
{
    uint64_t left = form->size - index * PIECE;
    return left < PIECE ? (size_t)left : (size_t)PIECE;
}

static void nonce_of(uint64_t index, unsigned char out[AEAD_NONCE_SIZE])
{
    memset(out, 0, AEAD_NONCE_SIZE);
    spool_put64(out, index);
}

static struct aead_place place_of(const struct form *form, const unsigned char *nonce)
{
    return (struct aead_place){form->key, nonce, str_of((const char *)form->header, HEADER)};
}

static enum result derive(struct spool_vault *vault, struct mail_id message, struct form *form,
                          struct error *err)
{
    struct spool_vault_place place = {spool_get64(form->header + 8), form->header + 16, message,
                                      STR("postern quarantine body")};
    return spool_vault_derive(vault, &place, form->key, err);
}

/* ---- sealing ---- */

/* Exactly `size` bytes, wherever the content keeps them. */
static enum result read_content(const struct mail_content *content, uint64_t offset, char *out,
                                size_t size, struct error *err) MAY_YIELD
{
    for (size_t done = 0; done < size;) {
        struct str data;
        if (mail_content_read(content, offset + done, size - done, out + done, &data, err) != OK)
            return FAILED;
        if (!data.len)
            return fail(err, ERROR_TEMPORARY, "the message ended early");
        if (data.ptr != out + done)
            memmove(out + done, data.ptr, data.len);
        done += data.len;
    }
    return OK;
}

static enum result seal_pieces(const struct form *form, const struct mail_content *content,
                               struct body *to, struct error *err) MAY_YIELD
{
    char *plain = memory_alloc(PIECE);
    char *sealed = memory_alloc(STRIDE);
    enum result result =
        body_append(to, str_of((const char *)form->header, sizeof form->header), err);
    for (uint64_t i = 0; i < pieces_of(form->size) && result == OK; i++) {
        unsigned char nonce[AEAD_NONCE_SIZE];
        size_t size = size_of_piece(form, i);
        struct aead_place place = place_of(form, nonce);
        nonce_of(i, nonce);
        result = read_content(content, i * PIECE, plain, size, err);
        if (result != OK)
            break;
        aead_seal(&place, str_of(plain, size), sealed);
        result = body_append(to, str_of(sealed, size + AEAD_TAG_SIZE), err);
        if (i % AT_ONCE == AT_ONCE - 1)
            fiber_yield();
    }
    memory_wipe(plain, PIECE);
    free(plain);
    free(sealed);
    return result == OK ? body_seal(to, err) : FAILED;
}

enum result spool_vault_seal(struct spool_vault *vault, struct spool *spool, struct mail_id message,
                             const struct mail_content *content, struct body **out_body,
                             struct error *err)
{
    struct form form = {.size = mail_content_size(content)};
    struct body *body = NULL;
    memcpy(form.header, magic, sizeof magic);
    spool_put64(form.header + 8, spool_vault_current(vault));
    random_bytes(form.header + 16, SPOOL_VAULT_SALT_SIZE);
    spool_put64(form.header + 16 + SPOOL_VAULT_SALT_SIZE, form.size);
    if (derive(vault, message, &form, err) != OK || spool_body_new(spool, &body, err) != OK)
        return FAILED;
    enum result result = seal_pieces(&form, content, body, err);
    memory_wipe(form.key, sizeof form.key);
    if (result == OK)
        *out_body = body;
    else
        body_unref(body);
    return result;
}

/* ---- reading ---- */

struct unsealed {
    struct body body;
    struct body *sealed;
    struct form form;
};

/* One piece to `out`, which has room for PIECE. */
static enum result open_piece(const struct unsealed *self, uint64_t index, char *out,
                              struct error *err) MAY_YIELD
{
    unsigned char nonce[AEAD_NONCE_SIZE];
    size_t size = size_of_piece(&self->form, index) + AEAD_TAG_SIZE;
    char *sealed = memory_alloc(STRIDE);
    struct mail_content whole = {.head = STR_EMPTY, .body = self->sealed};
    struct aead_place place = place_of(&self->form, nonce);
    nonce_of(index, nonce);
    enum result result = read_content(&whole, HEADER + index * STRIDE, sealed, size, err);
    if (result == OK && !aead_open(&place, str_of(sealed, size), out))
        result = fail(err, ERROR_TEMPORARY, "the encrypted message does not open with its key");
    free(sealed);
    return result;
}

NO_YIELD_CHECK static enum result read_part(struct body *body, uint64_t offset, size_t size,
                                            char *space, struct str *out_data, struct error *err)
{
    const struct unsealed *self = CONTAINER(body, const struct unsealed, body);
    *out_data = STR_EMPTY;
    if (offset >= body->size || size == 0)
        return OK;
    uint64_t index = offset / PIECE;
    size_t within = (size_t)(offset % PIECE);
    size_t here = size_of_piece(&self->form, index) - within;
    size_t given = size < here ? size : here;
    char *piece = memory_alloc(PIECE);
    enum result result = open_piece(self, index, piece, err);
    if (result == OK) {
        memcpy(space, piece + within, given);
        *out_data = str_of(space, given);
    }
    memory_wipe(piece, PIECE);
    free(piece);
    return result;
}

static void release(struct body *body)
{
    struct unsealed *self = CONTAINER(body, struct unsealed, body);
    body_unref(self->sealed);
    memory_wipe(self->form.key, sizeof self->form.key);
    free(self);
}

static enum result refuse_append(struct body *body, struct str data, struct error *err)
{
    (void)body;
    (void)data;
    return fail(err, ERROR_PERMANENT, "a sealed body does not grow");
}

static enum result seal_nothing(struct body *body, struct error *err)
{
    (void)body;
    (void)err;
    return OK;
}

static const struct body_ops ops = {
    .append = refuse_append,
    .seal = seal_nothing,
    .read = read_part,
    .release = release,
};

bool spool_vault_is_unsealed(const struct body *body)
{
    return body && body->ops == &ops;
}

static enum result verify(struct unsealed *self, struct error *err) MAY_YIELD
{
    char *piece = memory_alloc(PIECE);
    enum result result = OK;
    for (uint64_t i = 0; i < pieces_of(self->form.size) && result == OK; i++) {
        result = open_piece(self, i, piece, err);
        if (i % AT_ONCE == AT_ONCE - 1)
            fiber_yield();
    }
    memory_wipe(piece, PIECE);
    free(piece);
    return result;
}

static enum result read_header(struct spool_vault *vault, struct mail_id message,
                               struct body *sealed, struct form *out, struct error *err) MAY_YIELD
{
    struct mail_content whole = {.head = STR_EMPTY, .body = sealed};
    if (sealed->size < HEADER + AEAD_TAG_SIZE)
        return fail(err, ERROR_TEMPORARY, "this is no encrypted message");
    if (read_content(&whole, 0, (char *)out->header, HEADER, err) != OK)
        return FAILED;
    out->size = spool_get64(out->header + 16 + SPOOL_VAULT_SALT_SIZE);
    if (memcmp(out->header, magic, sizeof magic) != 0 || out->size > sealed->size ||
        HEADER + out->size + pieces_of(out->size) * AEAD_TAG_SIZE != sealed->size)
        return fail(err, ERROR_TEMPORARY, "this is no encrypted message");
    return derive(vault, message, out, err);
}

enum result spool_vault_unseal(struct spool_vault *vault, struct mail_id message,
                               struct body *sealed, struct body **out_body, struct error *err)
{
    struct unsealed *self = NEW(struct unsealed);
    self->body.ops = &ops;
    atomic_init(&self->body.references, 1);
    self->sealed = body_ref(sealed);
    enum result result = read_header(vault, message, sealed, &self->form, err);
    self->body.size = self->form.size;
    if (result == OK)
        result = verify(self, err);
    if (result == OK)
        *out_body = &self->body;
    else
        body_unref(&self->body);
    return result;
}

enum result spool_vault_copy(struct spool *spool, struct body *body, struct body **out_body,
                             struct error *err)
{
    struct body *copy = NULL;
    char *space = memory_alloc(PIECE);
    enum result result = spool_body_new(spool, &copy, err);
    for (uint64_t at = 0, turn = 1; at < body->size && result == OK; turn++) {
        struct str data;
        result = body_read(body, at, PIECE, space, &data, err);
        if (result == OK && !data.len)
            result = fail(err, ERROR_TEMPORARY, "the message ended early");
        if (result == OK)
            result = body_append(copy, data, err);
        at += data.len;
        if (turn % AT_ONCE == 0)
            fiber_yield();
    }
    if (result == OK)
        result = body_seal(copy, err);
    free(space);
    if (result == OK)
        *out_body = copy;
    else
        body_unref(copy);
    return result;
}
