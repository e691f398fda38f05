/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/milter_changes.h"

#include "base/buf.h"
#include "base/memory.h"

#include <string.h>

enum { RECIPIENTS_MAX = 10000 };

/* ---- addresses ---- */

static struct str without_brackets(struct str address)
{
    address = str_trim(address);
    if (str_starts(address, STR("<")) && str_ends(address, STR(">")))
        return str_slice(address, 1, address.len - 1);
    return address;
}

static enum result read_address(const struct milter_changes *changes, struct str text,
                                struct mail_address *out, struct error *err)
{
    text = without_brackets(text);
    if (mail_address_parse(changes->edit.arena, text, false, true, out) != MAIL_ADDRESS_OK ||
        out->kind != MAIL_DOMAIN_NAME)
        return fail(err, ERROR_PROTOCOL, "the milter named \"%.*s\", which is no address",
                    STR_ARG(str_slice(text, 0, 100)));
    return OK;
}

static enum result refuse_parameters(const struct milter_answer *answer, struct error *err)
{
    return fail(err, ERROR_PROTOCOL, "the milter gave parameters \"%.*s\", which are none",
                STR_ARG(str_slice(answer->value, 0, 100)));
}

static enum result read_sender(struct milter_changes *changes, const struct flow_running *running,
                               const struct milter_answer *answer, struct error *err)
{
    const struct flow_ways *ways = running->run->ways;
    struct arena *arena = changes->edit.arena;
    struct mail_address address;
    changes->has_sender = true;
    changes->sender = STR_EMPTY;
    if (without_brackets(answer->name).len) {
        if (read_address(changes, answer->name, &address, err) != OK)
            return FAILED;
        changes->sender = mail_address_text(arena, &address);
    }
    changes->sender_parameters = NULL;
    if (!answer->value.len)
        return OK;
    struct mail_sender *parameters = ARENA_NEW(arena, struct mail_sender);
    parameters->envid = STR_EMPTY;
    if (!ways || !ways->read_sender_parameters ||
        !ways->read_sender_parameters(answer->value, arena, parameters))
        return refuse_parameters(answer, err);
    changes->sender_parameters = parameters;
    return OK;
}

static void make_room(struct milter_changes *changes, size_t more)
{
    size_t cap = (changes->recipient_count + more) * 2;
    if (changes->recipient_count + more <= changes->recipient_cap)
        return;
    struct arena *arena = changes->edit.arena;
    struct mail_recipient *recipients = arena_alloc_array(arena, cap, sizeof *recipients);
    struct str *keys = arena_alloc_array(arena, cap, sizeof *keys);
    long *came_as = arena_alloc_array(arena, cap, sizeof *came_as);
    for (size_t i = 0; i < changes->recipient_count; i++) {
        recipients[i] = changes->recipients[i];
        keys[i] = changes->keys[i];
        came_as[i] = changes->came_as[i];
    }
    changes->recipients = recipients;
    changes->keys = keys;
    changes->came_as = came_as;
    changes->recipient_cap = cap;
}

static struct str key_of(struct arena *arena, struct str text)
{
    struct mail_address address;
    if (mail_address_parse(arena, text, false, true, &address) != MAIL_ADDRESS_OK)
        return arena_lower(arena, text);
    return mail_address_key(arena, &address);
}

/* Those in force, when the first of them is about to change. */
static void copy_recipients(struct milter_changes *changes, const struct flow_running *running)
{
    const struct flow_facts *facts = &running->facts;
    const struct flow_effects *effects = &running->verdict->effects;
    if (changes->has_recipients)
        return;
    changes->has_recipients = true;
    make_room(changes, facts->recipient_count + 1);
    for (size_t i = 0; i < facts->recipient_count; i++) {
        changes->recipients[i] = facts->recipients[i];
        changes->keys[i] = key_of(changes->edit.arena, facts->recipients[i].address);
        changes->came_as[i] = effects->came_as ? effects->came_as[i] : (long)i;
    }
    changes->recipient_count = facts->recipient_count;
}

static enum result may_go_to(const struct flow_running *running, struct str domain,
                             enum milter_recipients allowed, struct error *err)
{
    const struct flow_ways *ways = running->run->ways;
    if (!ways)
        return OK;
    if (!ways->is_taken(ways->context, domain))
        return fail(err, ERROR_PERMANENT,
                    "no domain takes mail for %.*s, where the milter adds a "
                    "recipient",
                    STR_ARG(str_slice(domain, 0, 100)));
    if (allowed != MILTER_RECIPIENTS_ANY && !ways->is_listed(ways->context, domain))
        return fail(err, ERROR_PERMANENT,
                    "the milter adds a recipient in %.*s, which is not listed (recipients: any "
                    "would allow it)",
                    STR_ARG(str_slice(domain, 0, 100)));
    return OK;
}

static enum result add_recipient(struct milter_changes *changes, struct flow_running *running,
                                 const struct milter_answer *answer, enum milter_recipients allowed,
                                 struct error *err)
{
    const struct flow_ways *ways = running->run->ways;
    struct arena *arena = changes->edit.arena;
    struct mail_address address;
    if (read_address(changes, answer->name, &address, err) != OK ||
        may_go_to(running, address.domain, allowed, err) != OK)
        return FAILED;
    struct mail_recipient recipient = {.address = mail_address_text(arena, &address),
                                       .domain = address.domain,
                                       .orcpt = STR_EMPTY};
    if (answer->value.len && (!ways || !ways->read_recipient_parameters ||
                              !ways->read_recipient_parameters(answer->value, arena, &recipient)))
        return refuse_parameters(answer, err);
    struct str key = mail_address_key(arena, &address);
    for (size_t i = 0; i < changes->recipient_count; i++)
        if (str_equal(changes->keys[i], key))
            return OK;
    if (changes->recipient_count >= RECIPIENTS_MAX)
        return fail(err, ERROR_LIMIT, "the milter makes more than %d recipients", RECIPIENTS_MAX);
    make_room(changes, 1);
    changes->recipients[changes->recipient_count] = recipient;
    changes->keys[changes->recipient_count] = key;
    changes->came_as[changes->recipient_count++] = FLOW_NEW_RECIPIENT;
    changes->recipients_added++;
    return OK;
}

static void delete_recipient(struct milter_changes *changes, const struct milter_answer *answer)
{
    struct str key = key_of(changes->edit.arena, without_brackets(answer->name));
    size_t kept = 0;
    for (size_t i = 0; i < changes->recipient_count; i++) {
        if (str_equal(changes->keys[i], key)) {
            changes->recipients_deleted++;
            continue;
        }
        changes->recipients[kept] = changes->recipients[i];
        changes->keys[kept] = changes->keys[i];
        changes->came_as[kept++] = changes->came_as[i];
    }
    changes->recipient_count = kept;
}

/* ---- reading ---- */

static enum result change_field(struct milter_changes *changes, const struct milter_answer *answer,
                                bool has_blank, struct error *err)
{
    struct header_edit *edit = &changes->edit;
    changes->has_fields = true;
    changes->fields_changed++;
    if (answer->kind == MILTER_ADD_HEADER)
        return header_edit_add(edit, answer->name, answer->value, has_blank, err);
    if (answer->kind == MILTER_INSERT_HEADER)
        return header_edit_insert(edit, answer->index, answer->name, answer->value, has_blank, err);
    return header_edit_change(edit, answer->index, answer->name, answer->value, has_blank, err);
}

/* Words for people, on one line of the trace and of what is kept with the message. */
static struct str one_line(struct arena *arena, struct str text)
{
    char *copy = arena_alloc(arena, text.len + 1);
    for (size_t i = 0; i < text.len; i++)
        copy[i] = (unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 127 ? ' ' : text.ptr[i];
    return str_of(copy, text.len);
}

static enum result read_one(struct milter_changes *changes, struct flow_running *running,
                            const struct milter_answer *answer, bool has_blank,
                            enum milter_recipients allowed, struct error *err)
{
    switch (answer->kind) {
    case MILTER_ADD_HEADER:
    case MILTER_INSERT_HEADER:
    case MILTER_CHANGE_HEADER:
        return change_field(changes, answer, has_blank, err);
    case MILTER_CHANGE_SENDER:
        return read_sender(changes, running, answer, err);
    case MILTER_ADD_RECIPIENT:
        copy_recipients(changes, running);
        return add_recipient(changes, running, answer, allowed, err);
    case MILTER_DELETE_RECIPIENT:
        copy_recipients(changes, running);
        delete_recipient(changes, answer);
        return OK;
    case MILTER_QUARANTINE:
        changes->quarantine = one_line(changes->edit.arena, answer->name);
        return OK;
    default:
        return fail(err, ERROR_PROTOCOL, "what the milter wants changed is no change");
    }
}

enum result milter_changes_read(struct milter_changes *changes, struct flow_running *running,
                                const struct milter_opinion *opinion,
                                enum milter_recipients allowed, struct error *err)
{
    for (size_t i = 0; i < opinion->change_count; i++)
        if (read_one(changes, running, &opinion->changes[i], opinion->leading_space, allowed,
                     err) != OK)
            return FAILED;
    return OK;
}

/* ---- doing ---- */

enum result milter_changes_apply(const struct milter_changes *changes, struct flow_running *running,
                                 struct milter_opinion *opinion, struct error *err)
{
    if (opinion->body && flow_spend(running, FLOW_BUDGET_MEMORY, opinion->body->size, err) != OK)
        return FAILED;
    if (changes->has_fields && header_edit_commit(&changes->edit, running, err) != OK)
        return FAILED;
    if (opinion->body)
        flow_body_replace(running, take(opinion->body), opinion->body_has_8bit);
    if (changes->has_sender) {
        flow_set_sender(running, changes->sender);
        if (changes->sender_parameters)
            flow_set_sender_parameters(running, changes->sender_parameters);
    }
    if (changes->has_recipients)
        flow_set_recipients(running, changes->recipients, changes->came_as,
                            changes->recipient_count);
    return OK;
}

struct str milter_changes_words(const struct milter_changes *changes,
                                const struct milter_opinion *opinion, struct arena *arena)
{
    struct buf out BUF_CLEANUP;
    buf_init(&out, 512);
    if (changes->fields_changed)
        buf_printf(&out, "%u header change%s", changes->fields_changed,
                   changes->fields_changed == 1 ? "" : "s");
    if (opinion->body)
        buf_printf(&out, "%sanother body", out.len ? ", " : "");
    if (changes->has_sender)
        buf_printf(&out, "%ssender <%.*s>", out.len ? ", " : "",
                   STR_ARG(str_slice(changes->sender, 0, 100)));
    if (changes->recipients_added)
        buf_printf(&out, "%s%u recipient%s added", out.len ? ", " : "", changes->recipients_added,
                   changes->recipients_added == 1 ? "" : "s");
    if (changes->recipients_deleted)
        buf_printf(&out, "%s%u taken off", out.len ? ", " : "", changes->recipients_deleted);
    return arena_str(arena, buf_str(&out));
}
