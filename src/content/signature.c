/* SPDX-License-Identifier: Apache-2.0 */
#include "content/signature.h"

#include "content/canon.h"
#include "mail/address.h"

#include <string.h>

enum { START_LEN = 8, TIME_MAX_DIGITS = 12, VALUE_MAX = 64 * 1024 };

/* What reading a field passes along; a reader says false and sets `detail`. */
struct reading {
    struct signature *signature;
    struct arena *arena;
    int64_t now_s;
    enum dkim_result result; /* if a reader says false */
    const char *detail;
};

static bool refuse(struct reading *reading, enum dkim_result result, const char *detail)
{
    reading->result = result;
    reading->detail = detail;
    return false;
}

static bool read_algorithm(struct reading *reading)
{
    struct signature *signature = reading->signature;
    struct str name = arena_lower(reading->arena, tags_value(&signature->tags, STR("a")));
    signature->algorithm = name;
    signature->kind = SIGN_RSA;
    if (str_equal(name, STR("rsa-sha256")))
        return true;
    if (str_equal(name, STR("ed25519-sha256"))) {
        signature->kind = SIGN_ED25519;
        return true;
    }
    if (name.len == 0)
        return refuse(reading, DKIM_PERMERROR, "a= is missing");
    if (str_equal(name, STR("rsa-sha1"))) /* RFC 8301 3.1 */
        return refuse(reading, DKIM_PERMERROR, "rsa-sha1 proves nothing any more");
    return refuse(reading, DKIM_NEUTRAL, "the algorithm is not known");
}

static bool read_names(struct reading *reading)
{
    struct signature *signature = reading->signature;
    struct str domain = tags_value(&signature->tags, STR("d"));
    struct str selector = tags_value(&signature->tags, STR("s"));
    if (!mail_domain_normalize(reading->arena, domain, &signature->domain))
        return refuse(reading, DKIM_PERMERROR, "d= is no host name");
    if (!mail_domain_normalize(reading->arena, selector, &signature->selector))
        return refuse(reading, DKIM_PERMERROR, "s= is no host name");
    return true;
}

static bool read_bytes(struct reading *reading)
{
    struct signature *signature = reading->signature;
    struct str value = tags_value(&signature->tags, STR("b"));
    struct str packed = tags_pack(reading->arena, value);
    struct buf bytes BUF_CLEANUP;
    buf_init(&bytes, SIGN_BYTES_MAX + 2);
    signature->start = str_slice(packed, 0, START_LEN);
    if (!tags_base64(value, &bytes) || bytes.len > SIGN_BYTES_MAX) {
        signature->start = STR_EMPTY;
        return refuse(reading, DKIM_PERMERROR, "b= is no signature in base64");
    }
    memcpy(signature->bytes, bytes.ptr, bytes.len);
    signature->size = bytes.len;
    return true;
}

static bool read_body_hash(struct reading *reading)
{
    struct buf bytes BUF_CLEANUP;
    buf_init(&bytes, SHA256_SIZE + 2);
    if (!tags_base64(tags_value(&reading->signature->tags, STR("bh")), &bytes) ||
        bytes.len != SHA256_SIZE)
        return refuse(reading, DKIM_PERMERROR, "bh= is no hash in base64");
    memcpy(reading->signature->body_hash, bytes.ptr, SHA256_SIZE);
    return true;
}

static bool canon_of(struct str word, enum dkim_canon *out)
{
    *out = str_equal_nocase(word, STR("relaxed")) ? DKIM_RELAXED : DKIM_SIMPLE;
    return *out == DKIM_RELAXED || str_equal_nocase(word, STR("simple"));
}

static bool read_canon(struct reading *reading)
{
    struct signature *signature = reading->signature;
    const struct tag *tag = tags_find(&signature->tags, STR("c"));
    /* sealers that leave it out mean relaxed */
    struct str rest =
        signature->type == SIGNATURE_DKIM ? STR("simple/simple") : STR("relaxed/relaxed");
    if (tag)
        rest = tag->value;
    struct str header;
    (void)str_split(&rest, '/', &header);
    struct str body = rest.ptr ? rest : STR("simple");
    if (!canon_of(header, &signature->header) || !canon_of(body, &signature->body))
        return refuse(reading, DKIM_PERMERROR, "c= is unknown");
    return true;
}

static bool read_signed_names(struct reading *reading)
{
    struct signature *signature = reading->signature;
    bool is_arc = signature->type == SIGNATURE_ARC_MESSAGE;
    const struct tag *tag = tags_find(&signature->tags, STR("h"));
    struct str rest = tag ? tag->value : STR_EMPTY;
    struct str name;
    size_t count = 0;
    signature->names = rest;
    if (!tag)
        return refuse(reading, DKIM_PERMERROR, "h= is missing");
    while (tags_next_part(&rest, &name))
        count++;
    if (count > SIGNATURE_NAMES_MAX)
        return refuse(reading, DKIM_PERMERROR, "h= names too many fields");
    if (!is_arc && !tags_list_has(signature->names, STR("from")))
        return refuse(reading, DKIM_PERMERROR, "From is not signed");
    if (is_arc && tags_list_has(signature->names, STR("arc-seal")))
        return refuse(reading, DKIM_PERMERROR, "h= names ARC-Seal"); /* RFC 8617 4.1.2 */
    return true;
}

/* Digits, if the tag is there. */
static bool read_time(struct reading *reading, struct str name, int64_t *out_s)
{
    const struct tag *tag = tags_find(&reading->signature->tags, name);
    uint64_t value = 0;
    *out_s = -1;
    if (!tag)
        return true;
    if (tag->value.len > TIME_MAX_DIGITS || !str_to_uint(tag->value, INT64_MAX, &value))
        return refuse(reading, DKIM_PERMERROR, "t= or x= is no time");
    *out_s = (int64_t)value;
    return true;
}

static bool read_times(struct reading *reading)
{
    int64_t made_s, expires_s;
    if (!read_time(reading, STR("t"), &made_s))
        return false;
    if (reading->signature->type != SIGNATURE_DKIM)
        return true;
    if (!read_time(reading, STR("x"), &expires_s))
        return false;
    if (expires_s >= 0 && made_s >= 0 && expires_s <= made_s)
        return refuse(reading, DKIM_PERMERROR, "x= is not after t=");
    if (expires_s >= 0 && reading->now_s > expires_s)
        return refuse(reading, DKIM_NEUTRAL, "the signature has expired");
    return true;
}

static bool read_length(struct reading *reading)
{
    struct signature *signature = reading->signature;
    const struct tag *tag = tags_find(&signature->tags, STR("l"));
    if (!tag)
        return true;
    signature->has_length = true;
    if (!str_to_uint(tag->value, INT64_MAX, &signature->length))
        return refuse(reading, DKIM_PERMERROR, "l= is no length");
    return true;
}

/* i= is of the domain, or below it (RFC 6376 3.5). */
static bool read_identity(struct reading *reading)
{
    struct signature *signature = reading->signature;
    const struct tag *tag = tags_find(&signature->tags, STR("i"));
    struct str own = signature->domain;
    struct str domain;
    signature->identity = arena_printf(reading->arena, "@%.*s", STR_ARG(own));
    if (!tag)
        return true;
    ptrdiff_t at = str_find_last(tag->value, '@');
    if (at < 0 ||
        !mail_domain_normalize(reading->arena, str_from(tag->value, (size_t)at + 1), &domain))
        return refuse(reading, DKIM_PERMERROR, "i= is no identity");
    bool is_below = str_ends(domain, own) &&
                    (domain.len == own.len || domain.ptr[domain.len - own.len - 1] == '.');
    if (!is_below)
        return refuse(reading, DKIM_PERMERROR, "i= is not of d=");
    signature->identity = arena_str(reading->arena, tag->value);
    return true;
}

static bool read_dkim_only(struct reading *reading)
{
    const struct tags *tags = &reading->signature->tags;
    const struct tag *query = tags_find(tags, STR("q"));
    if (!str_equal(tags_value(tags, STR("v")), STR("1")))
        return refuse(reading, DKIM_PERMERROR, "v= is not 1");
    if (query && !tags_list_has(query->value, STR("dns/txt")))
        return refuse(reading, DKIM_PERMERROR, "q= is not dns/txt");
    return read_identity(reading);
}

static bool read_all(struct reading *reading)
{
    struct signature *signature = reading->signature;
    struct str value = signature->field.value;
    if (value.len > VALUE_MAX || !tags_parse(value, &signature->tags, &reading->detail)) {
        reading->result = DKIM_PERMERROR;
        if (value.len > VALUE_MAX)
            reading->detail = "the signature is too long";
        return false;
    }
    if (!read_names(reading) || !read_algorithm(reading) || !read_bytes(reading) ||
        !read_times(reading))
        return false;
    if (signature->type == SIGNATURE_ARC_SEAL)
        return true;
    if (!read_body_hash(reading) || !read_canon(reading) || !read_signed_names(reading) ||
        !read_length(reading))
        return false;
    return signature->type == SIGNATURE_ARC_MESSAGE || read_dkim_only(reading);
}

enum dkim_result signature_parse(const struct mail_field *field, enum signature_type type,
                                 int64_t now_s, struct arena *arena, struct signature *out,
                                 const char **out_detail)
{
    struct reading reading = {
        .signature = out, .arena = arena, .now_s = now_s, .result = DKIM_PASS, .detail = ""};
    *out = (struct signature){.type = type,
                              .field = *field,
                              .algorithm = STR_EMPTY,
                              .domain = STR_EMPTY,
                              .selector = STR_EMPTY,
                              .identity = STR_EMPTY,
                              .start = STR_EMPTY,
                              .names = STR_EMPTY};
    (void)read_all(&reading);
    *out_detail = reading.detail;
    return reading.result;
}

void signature_hash(const struct signature *signature, struct fields *fields,
                    unsigned char out_hash[SHA256_SIZE])
{
    struct canon_sink sink;
    struct str rest = signature->names;
    struct str name;
    const struct mail_field *field;
    canon_sink_open(&sink);
    fields_restart(fields);
    while (tags_next_part(&rest, &name)) {
        field = fields_take(fields, name);
        if (field && field->raw.ptr == signature->field.raw.ptr)
            field = fields_take(fields, name); /* it cannot sign itself this way */
        if (field)
            canon_field(&sink, signature->header, field);
    }
    canon_signature(&sink, signature->header, &signature->field,
                    tags_find(&signature->tags, STR("b"))->whole);
    canon_sink_finish(&sink, out_hash);
    canon_sink_close(&sink);
}

enum result signature_check(const struct signature *signature,
                            const unsigned char hash[SHA256_SIZE], const struct dkim_dns *dns,
                            struct arena *arena, struct dkim_key *out_key,
                            enum dkim_result *out_result, const char **out_detail,
                            struct error *err)
{
    if (dkim_key_fetch(dns, signature->selector, signature->domain, signature->kind, arena, out_key,
                       out_result, out_detail, err) != OK)
        return FAILED;
    if (*out_result != DKIM_PASS)
        return OK;
    *out_detail = "";
    if (!sign_check(out_key->key, hash, str_of(signature->bytes, signature->size))) {
        *out_result = DKIM_FAIL;
        *out_detail = "the signature does not fit the header";
    }
    return OK;
}

enum dkim_result signature_check_body(const struct signature *signature,
                                      const struct dkim_message *message, const char **out_detail)
{
    const struct dkim_body_hash *body = &message->bodies[signature->body];
    *out_detail = "";
    if (signature->has_length && signature->length > body->size) {
        *out_detail = "l= is more than the body has";
        return DKIM_PERMERROR;
    }
    if (signature->has_length && signature->length < body->size) {
        *out_detail = "l= leaves part of the body unsigned";
        return DKIM_POLICY;
    }
    if (memcmp(body->hash, signature->body_hash, SHA256_SIZE) == 0)
        return DKIM_PASS;
    *out_detail = "the body was changed";
    return DKIM_FAIL;
}
