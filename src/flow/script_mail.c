/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/script_mail.c - the object `mail` of scripts: facts of session and message, and changes.
 *
 * Changes are those that blocks make, by the same functions, and count against the same limits of
 * the message. In an observed step they are checked and not made.
 */
#include "flow/script.h"

#include "base/buf.h"
#include "flow/attempt.h"
#include "flow/expression_internal.h"
#include "flow/text.h"
#include "mail/header.h"

enum {
    SLICE_MAX = 64 * 1024,
    TEXT_MAX = 256 * 1024,
    NAME_MAX_LEN = 76,
    FIELD_MAX = 998,
    VALUE_MAX = 16 * 1024,
    HEAD_MAX = 4 * 1024 * 1024,
    FIELDS_SHOWN = 1000,
};

static struct flow_scripting *of(const struct script_call *call)
{
    return call->context;
}

static const struct flow_facts *facts_of(const struct script_call *call)
{
    return &of(call)->running->facts;
}

/* ---- facts ---- */

static enum result give_text(struct script_call *call, struct error *err)
{
    (void)err;
    script_return_text(call, expression_fact(call->row->tag, facts_of(call), call->arena));
    return OK;
}

enum { ID_SESSION, ID_MESSAGE };

static enum result give_id(struct script_call *call, struct error *err)
{
    const struct flow_facts *facts = facts_of(call);
    struct mail_id_text text =
        mail_id_text(call->row->tag == ID_SESSION ? facts->session : facts->message);
    (void)err;
    script_return_text(call, arena_str(call->arena, str_c(text.chars)));
    return OK;
}

static enum result give_flag(struct script_call *call, struct error *err)
{
    const struct flow_facts *facts = facts_of(call);
    (void)err;
    script_return_bool(call,
                       call->row->tag == NAME_TRUSTED ? facts->trusted : facts->authenticated);
    return OK;
}

static enum result give_client(struct script_call *call, struct error *err)
{
    char text[NET_IP_TEXT];
    (void)err;
    script_return_text(call, arena_str(call->arena, net_ip_format(&facts_of(call)->client, text)));
    return OK;
}

static enum result give_recipients(struct script_call *call, struct error *err)
{
    const struct flow_facts *facts = facts_of(call);
    size_t count =
        facts->recipient_count < SCRIPT_ITEMS_MAX ? facts->recipient_count : SCRIPT_ITEMS_MAX;
    struct script_value *items = script_return_list(call, count);
    (void)err;
    for (size_t i = 0; i < count; i++)
        items[i] = script_text(facts->recipients[i].address);
    return OK;
}

static enum result give_own_addresses(struct script_call *call, struct error *err)
{
    const struct flow_facts *facts = facts_of(call);
    struct script_value *items = script_return_list(call, facts->own_address_count);
    (void)err;
    for (size_t i = 0; i < facts->own_address_count; i++)
        items[i] = script_text(facts->own_addresses[i]);
    return OK;
}

static enum result give_size(struct script_call *call, struct error *err)
{
    (void)err;
    script_return_integer(call, (int64_t)facts_of(call)->size);
    return OK;
}

static enum result give_score(struct script_call *call, struct error *err)
{
    const struct flow_facts *facts = facts_of(call);
    (void)err;
    script_return_number(call, facts->checks ? facts->checks->score : 0);
    return OK;
}

static enum result give_findings(struct script_call *call, struct error *err)
{
    const struct flow_effects *effects = facts_of(call)->effects;
    size_t count = effects ? effects->finding_count : 0;
    struct script_value *items = script_return_list(call, count);
    (void)err;
    for (size_t i = 0; i < count; i++)
        items[i] = script_text(effects->findings[i].name);
    return OK;
}

static enum result give_login(struct script_call *call, struct error *err)
{
    (void)err;
    script_return_text(call, of(call)->running->login);
    return OK;
}

/* ---- header and body ---- */

static enum result header(struct script_call *call, struct error *err)
{
    struct str name;
    struct mail_field field;
    if (script_take_text(call, 0, &name, err) != OK)
        return FAILED;
    if (mail_header_find(facts_of(call)->header, name, &field))
        script_return_text(call, mail_field_text(call->arena, &field));
    else
        script_return_nil(call);
    return OK;
}

static enum result headers(struct script_call *call, struct error *err)
{
    struct str wanted;
    struct str rest = facts_of(call)->header;
    struct mail_field field;
    size_t count = 0;
    if (script_take_text_or(call, 0, STR_EMPTY, &wanted, err) != OK)
        return FAILED;
    struct script_value *items = script_return_list(call, FIELDS_SHOWN);
    while (count < FIELDS_SHOWN && mail_header_next(&rest, &field)) {
        if (!field.name.len || (wanted.len && !str_equal_nocase(field.name, wanted)))
            continue;
        struct str text = mail_field_text(call->arena, &field);
        if (wanted.len) {
            items[count++] = script_text(text);
            continue;
        }
        struct script_value *pair = &items[count++];
        pair->kind = SCRIPT_MAP;
        pair->count = 2;
        pair->keys = arena_alloc_array(call->arena, 2, sizeof *pair->keys);
        pair->items = arena_alloc_array(call->arena, 2, sizeof *pair->items);
        pair->keys[0] = STR("name");
        pair->keys[1] = STR("value");
        pair->items[0] = script_text(field.name);
        pair->items[1] = script_text(text);
    }
    call->results[0].count = count;
    return OK;
}

static MAY_YIELD enum result body(struct script_call *call, struct error *err)
{
    int64_t offset = 0, length = SLICE_MAX;
    struct flow_running *running = of(call)->running;
    if (call->argument_count > 0 && script_take_integer(call, 0, 0, INT64_MAX, &offset, err) != OK)
        return FAILED;
    if (call->argument_count > 1 && script_take_integer(call, 1, 0, SLICE_MAX, &length, err) != OK)
        return FAILED;
    struct buf text BUF_CLEANUP;
    buf_init(&text, SLICE_MAX);
    char *space = arena_alloc(call->arena, SLICE_MAX);
    uint64_t size = flow_body_size(running);
    while (text.len < (size_t)length && (uint64_t)offset + text.len < size) {
        struct str data;
        if (flow_body_read(running, (uint64_t)offset + text.len, (size_t)length - text.len, space,
                           &data, err) != OK)
            return FAILED;
        if (!data.len)
            break;
        buf_append(&text, data);
    }
    script_return_text(call, arena_str(call->arena, buf_str(&text)));
    return OK;
}

struct collecting {
    struct flow_running *running;
    struct buf *text;
};

static enum result collect(void *context, struct str data, struct error *err)
{
    struct collecting *collecting = context;
    if (flow_spend(collecting->running, FLOW_BUDGET_DECODED, data.len, err) != OK)
        return FAILED;
    struct buf *text = collecting->text;
    buf_append(text, str_slice(data, 0, text->max - text->len));
    return text->len < text->max ? OK : fail(err, ERROR_NONE, "enough");
}

static MAY_YIELD enum result text(struct script_call *call, struct error *err)
{
    int64_t most = TEXT_MAX;
    struct flow_running *running = of(call)->running;
    const struct mime_message *message;
    if (call->argument_count > 0 && script_take_integer(call, 0, 1, TEXT_MAX, &most, err) != OK)
        return FAILED;
    if (flow_mime(running, &message, err) != OK)
        return FAILED;
    struct buf out BUF_CLEANUP;
    buf_init(&out, (size_t)most);
    struct collecting collecting = {running, &out};
    for (size_t i = 0; i < message->count && out.len < out.max; i++)
        if (mime_is_text(&message->parts[i]) &&
            mime_decode_text(message, &message->parts[i], /* strip_html= */ true, collect,
                             &collecting, NULL, err) != OK &&
            out.len < out.max)
            return FAILED;
    script_return_text(call, arena_str(call->arena, buf_str(&out)));
    return OK;
}

static MAY_YIELD enum result parts(struct script_call *call, struct error *err)
{
    static const char *const names[] = {"type", "name", "size", "attachment"};
    enum { KEYS = 4 };
    const struct mime_message *message;
    if (flow_mime(of(call)->running, &message, err) != OK)
        return FAILED;
    size_t count = message->count < FIELDS_SHOWN ? message->count : FIELDS_SHOWN;
    struct script_value *items = script_return_list(call, count);
    for (size_t i = 0; i < count; i++) {
        const struct mime_part *part = &message->parts[i];
        struct script_value *map = &items[i];
        map->kind = SCRIPT_MAP;
        map->count = KEYS;
        map->keys = arena_alloc_array(call->arena, KEYS, sizeof *map->keys);
        map->items = arena_alloc_array(call->arena, KEYS, sizeof *map->items);
        for (size_t k = 0; k < KEYS; k++)
            map->keys[k] = str_c(names[k]);
        map->items[0] = script_text(part->type);
        map->items[1] = script_text(part->name);
        map->items[2] = (struct script_value){
            .kind = SCRIPT_INTEGER, .integer = (int64_t)(part->body_end - part->body_begin)};
        map->items[3] = (struct script_value){.kind = SCRIPT_BOOL, .truth = part->is_attachment};
    }
    return OK;
}

/* ---- changes of the header ---- */

static enum result may_change(struct script_call *call, struct error *err)
{
    if (of(call)->changes++ >= FLOW_SCRIPT_CHANGES)
        return fail(err, ERROR_LIMIT, "more than %d changes", FLOW_SCRIPT_CHANGES);
    return OK;
}

static enum result take_field_name(struct script_call *call, struct str *out, struct error *err)
{
    if (script_take_text(call, 0, out, err) != OK)
        return FAILED;
    bool good = out->len > 0 && out->len <= NAME_MAX_LEN;
    for (size_t i = 0; i < out->len; i++)
        good = good && out->ptr[i] > ' ' && out->ptr[i] < 127 && out->ptr[i] != ':';
    if (!good)
        return fail(err, ERROR_PERMANENT, "this is not the name of a header field");
    return OK;
}

/* A field in lines of at most 998 octets; text that is not ASCII becomes encoded words. */
static enum result write_field(struct str name, struct str value, struct buf *out,
                               struct error *err)
{
    value = str_trim(value);
    if (!value.len || value.len > VALUE_MAX || !flow_text_is_clean(value, /* lines= */ false))
        return fail(err, ERROR_PERMANENT,
                    "the value must be one line of UTF-8 text of at most %d bytes", VALUE_MAX);
    buf_append(out, name);
    buf_append(out, STR(":"));
    if (!flow_text_is_ascii(value)) {
        buf_append(out, STR(" "));
        flow_text_encode(value, out);
        buf_append(out, STR("\r\n"));
        return OK;
    }
    size_t column = name.len + 1;
    bool first = true;
    struct str word;
    while (value.ptr && str_split(&value, ' ', &word)) {
        if (word.len > FIELD_MAX - NAME_MAX_LEN - 2)
            return fail(err, ERROR_PERMANENT, "a word of the value is too long for a line");
        bool fold = !first && column + 1 + word.len > NAME_MAX_LEN + 2 && word.len;
        if (fold) {
            buf_append(out, STR("\r\n"));
            column = 0;
        }
        buf_append(out, STR(" "));
        buf_append(out, word);
        column += 1 + word.len;
        first = false;
    }
    buf_append(out, STR("\r\n"));
    return OK;
}

/* The own part without the fields of that name; `instead`: a field in place of the first, or at
 * the end. *out_count: how many there were. */
static enum result without(struct script_call *call, struct str name, struct str instead,
                           size_t *out_count, struct error *err)
{
    struct flow_running *running = of(call)->running;
    struct str own;
    (void)flow_head_split(running, &own);
    struct str rest = own;
    struct mail_field field;
    struct buf head BUF_CLEANUP;
    buf_init(&head, HEAD_MAX);
    *out_count = 0;
    while (mail_header_next(&rest, &field)) {
        if (!field.name.len || !str_equal_nocase(field.name, name))
            buf_append(&head, field.raw);
        else if ((*out_count)++ == 0)
            buf_append(&head, instead);
    }
    if (*out_count == 0)
        buf_append(&head, instead);
    buf_append(&head, rest);
    if (head.overflow)
        return fail(err, ERROR_LIMIT, "the header section is over %d bytes", HEAD_MAX);
    if (of(call)->observe || (*out_count == 0 && !instead.len))
        return OK;
    if (flow_spend(running, FLOW_BUDGET_MEMORY, head.len, err) != OK)
        return FAILED;
    flow_head_set_own(running, buf_str(&head));
    return OK;
}

/* On top of the message's own fields, below our trace. */
static enum result add_header(struct script_call *call, struct error *err)
{
    struct str name, value, own;
    struct flow_running *running = of(call)->running;
    struct buf head BUF_CLEANUP;
    buf_init(&head, HEAD_MAX);
    if (may_change(call, err) != OK || take_field_name(call, &name, err) != OK ||
        script_take_text(call, 1, &value, err) != OK || write_field(name, value, &head, err) != OK)
        return FAILED;
    if (of(call)->observe)
        return OK;
    (void)flow_head_split(running, &own);
    buf_append(&head, own);
    if (head.overflow)
        return fail(err, ERROR_LIMIT, "the header section is over %d bytes", HEAD_MAX);
    if (flow_spend(running, FLOW_BUDGET_MEMORY, head.len, err) != OK)
        return FAILED;
    flow_head_set_own(running, buf_str(&head));
    return OK;
}

static enum result set_header(struct script_call *call, struct error *err)
{
    struct str name, value;
    size_t count;
    struct buf field BUF_CLEANUP;
    buf_init(&field, (size_t)4 * VALUE_MAX);
    if (may_change(call, err) != OK || take_field_name(call, &name, err) != OK ||
        script_take_text(call, 1, &value, err) != OK || write_field(name, value, &field, err) != OK)
        return FAILED;
    if (str_equal_nocase(name, STR("Received")))
        return fail(err, ERROR_PERMANENT, "Received stays: loops are found by it");
    return without(call, name, buf_str(&field), &count, err);
}

static enum result remove_header(struct script_call *call, struct error *err)
{
    struct str name;
    size_t count;
    if (may_change(call, err) != OK || take_field_name(call, &name, err) != OK)
        return FAILED;
    if (str_equal_nocase(name, STR("Received")))
        return fail(err, ERROR_PERMANENT, "Received stays: loops are found by it");
    if (without(call, name, STR_EMPTY, &count, err) != OK)
        return FAILED;
    script_return_integer(call, (int64_t)count);
    return OK;
}

/* ---- changes of the envelope ---- */

/* An address in the run's arena. */
static enum result parse_address(struct script_call *call, struct str text,
                                 struct mail_address *out, struct error *err)
{
    struct arena *arena = of(call)->running->run->arena;
    if (mail_address_parse(arena, arena_str(arena, text), false, true, out) != MAIL_ADDRESS_OK ||
        out->kind != MAIL_DOMAIN_NAME)
        return fail(err, ERROR_PERMANENT, "\"%.*s\" is no address",
                    STR_ARG(str_slice(text, 0, 100)));
    return OK;
}

/* One that mail can be sent to: in a listed domain, or one that any transport takes where the step
 * says any_domain. */
static enum result parse_recipient(struct script_call *call, struct str text,
                                   struct mail_address *out, struct error *err)
{
    const struct flow_ways *ways = of(call)->running->run->ways;
    if (parse_address(call, text, out, err) != OK)
        return FAILED;
    if (ways && !ways->is_taken(ways->context, out->domain))
        return fail(err, ERROR_PERMANENT, "no domain takes mail for <%.*s>",
                    STR_ARG(str_slice(text, 0, 100)));
    if (!of(call)->script->any_domain && (!ways || !ways->is_listed(ways->context, out->domain)))
        return fail(err, ERROR_PERMANENT,
                    "\"%.*s\" is not a listed domain, and the step does not say any_domain: true",
                    STR_ARG(str_slice(out->domain, 0, 100)));
    return OK;
}

static enum result set_sender(struct script_call *call, struct error *err)
{
    struct str text;
    struct mail_address address = {.domain = STR_EMPTY};
    struct flow_running *running = of(call)->running;
    if (may_change(call, err) != OK || script_take_text(call, 0, &text, err) != OK)
        return FAILED;
    if (text.len && parse_address(call, text, &address, err) != OK)
        return FAILED;
    if (!of(call)->observe)
        flow_set_sender(running,
                        text.len ? mail_address_text(running->run->arena, &address) : STR_EMPTY);
    return OK;
}

/* Those that the proof of relay safety was told of: it looks for the names in the text. */
static enum result may_rewrite(struct script_call *call, struct error *err)
{
    if (of(call)->script->rewrites)
        return may_change(call, err);
    return fail(err, ERROR_PERMANENT,
                "write \"mail:%s\" out in the file: postern check looks for the name",
                call->row->name);
}

static enum result set_recipient(struct script_call *call, struct error *err)
{
    struct str text;
    struct mail_address address;
    struct flow_running *running = of(call)->running;
    if (may_rewrite(call, err) != OK || script_take_text(call, 0, &text, err) != OK ||
        parse_recipient(call, text, &address, err) != OK)
        return FAILED;
    if (!of(call)->observe)
        flow_set_recipient(running, mail_address_key(running->run->arena, &address),
                           address.domain);
    return OK;
}

/* One that is there already stays what it is; else it is looked up anew. */
static enum result fill_recipient(struct script_call *call, struct str text,
                                  struct mail_recipient *out, long *came_as, struct error *err)
{
    const struct flow_facts *facts = facts_of(call);
    const struct flow_effects *effects = &of(call)->running->verdict->effects;
    struct mail_address address;
    for (size_t i = 0; i < facts->recipient_count; i++) {
        if (!str_equal(facts->recipients[i].address, text))
            continue;
        *out = facts->recipients[i];
        *came_as = effects->came_as ? effects->came_as[i] : (long)i;
        return OK;
    }
    if (parse_recipient(call, text, &address, err) != OK)
        return FAILED;
    *out = (struct mail_recipient){.address =
                                       mail_address_text(of(call)->running->run->arena, &address),
                                   .domain = address.domain,
                                   .orcpt = STR_EMPTY};
    *came_as = FLOW_NEW_RECIPIENT;
    return OK;
}

static enum result set_recipients(struct script_call *call, struct error *err)
{
    enum { RECIPIENTS_MAX = 1000 };
    const struct script_value *list = &call->arguments[0];
    struct flow_running *running = of(call)->running;
    struct arena *arena = running->run->arena;
    if (may_rewrite(call, err) != OK)
        return FAILED;
    if (list->kind != SCRIPT_LIST || list->count > RECIPIENTS_MAX)
        return fail(err, ERROR_PERMANENT,
                    "argument 1: expected a list of 1 to %d addresses; to send it to nobody say "
                    "discard",
                    RECIPIENTS_MAX);
    if (flow_spend(running, FLOW_BUDGET_MEMORY, list->count * 200, err) != OK)
        return FAILED;
    struct mail_recipient *recipients = arena_alloc_array(arena, list->count, sizeof *recipients);
    long *came_as = arena_alloc_array(arena, list->count, sizeof *came_as);
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].kind != SCRIPT_TEXT)
            return fail(err, ERROR_PERMANENT, "item %zu of the list is no text", i + 1);
        if (fill_recipient(call, list->items[i].text, &recipients[i], &came_as[i], err) != OK)
            return FAILED;
    }
    if (!of(call)->observe)
        flow_set_recipients(running, recipients, came_as, list->count);
    return OK;
}

static enum result route(struct script_call *call, struct error *err)
{
    const struct option_texts *allowed = &of(call)->script->transports;
    struct str name;
    if (may_change(call, err) != OK || script_take_text(call, 0, &name, err) != OK)
        return FAILED;
    for (size_t i = 0; i < allowed->count; i++) {
        if (!str_equal(allowed->items[i], name))
            continue;
        if (!of(call)->observe)
            flow_set_transport(of(call)->running, allowed->items[i]);
        return OK;
    }
    return fail(err, ERROR_PERMANENT, "\"%.*s\" is not among the step's transports",
                STR_ARG(str_slice(name, 0, 100)));
}

/* ---- judgements ---- */

static enum result add_finding(struct script_call *call, struct error *err)
{
    struct str name, words;
    if (may_change(call, err) != OK || script_take_text(call, 0, &name, err) != OK ||
        script_take_text_or(call, 1, STR_EMPTY, &words, err) != OK)
        return FAILED;
    if (!name.len || !flow_text_is_clean(name, false) || !flow_text_is_clean(words, false))
        return fail(err, ERROR_PERMANENT, "a finding has a name, and words of one line");
    flow_add_finding(of(call)->running, of(call)->step, name, words);
    return OK;
}

static enum result set_score(struct script_call *call, struct error *err)
{
    const struct script_value *score = &call->arguments[0];
    if (score->kind != SCRIPT_INTEGER && score->kind != SCRIPT_NUMBER)
        return fail(err, ERROR_PERMANENT, "argument 1: expected a number");
    flow_set_score(of(call)->running, score->number);
    return OK;
}

/* ---- logins ---- */

static MAY_YIELD enum result login(struct script_call *call, struct error *err)
{
    static const char *const words[] = {"yes", "no", "unknown", "error"};
    struct flow_scripting *scripting = of(call);
    struct flow_running *running = scripting->running;
    const struct flow_script *script = scripting->script;
    struct str name;
    if (script_take_text(call, 0, &name, err) != OK)
        return FAILED;
    const struct server *server = server_find(script->servers, script->server_count, name);
    if (!server || server->kind != SERVER_SMTP)
        return fail(err, ERROR_PERMANENT,
                    "there is no server \"%.*s\" with smtp:", STR_ARG(str_slice(name, 0, 100)));
    if (scripting->lookups++ >= FLOW_SCRIPT_LOOKUPS)
        return fail(err, ERROR_LIMIT, "more than %d questions", FLOW_SCRIPT_LOOKUPS);
    struct directory_answer answer = {.login = DIRECTORY_NO};
    if (running->login.len && running->password.len)
        directory_login_smtp(running->run->directory, server, running->login, running->password,
                             running->run->arena, &answer);
    running->said_no |= answer.login == DIRECTORY_NO;
    running->said_unknown |= answer.login == DIRECTORY_UNKNOWN;
    running->had_error |= answer.login == DIRECTORY_LOGIN_ERROR;
    running->was_hung_up |= answer.hung_up;
    if (answer.login == DIRECTORY_YES) {
        scripting->authenticated = true;
        running->own_addresses = answer.senders;
        running->own_address_count = answer.sender_count;
        running->account = STR_EMPTY;
    }
    script_return_text(call, str_c(words[answer.login]));
    script_return_text(call, arena_str(call->arena, answer.detail));
    return OK;
}

/* ---- an attempt ---- */

enum { TEXT_TRANSPORT, TEXT_DESTINATION, TEXT_HOST };

static enum result give_attempt_text(struct script_call *call, struct error *err)
{
    const struct flow_attempt *attempt = of(call)->attempt;
    (void)err;
    script_return_text(call, call->row->tag == TEXT_TRANSPORT     ? attempt->transport
                             : call->row->tag == TEXT_DESTINATION ? attempt->destination
                                                                  : attempt->host);
    return OK;
}

enum { NUMBER_ATTEMPT, NUMBER_AGE };

static enum result give_attempt_number(struct script_call *call, struct error *err)
{
    const struct flow_attempt *attempt = of(call)->attempt;
    (void)err;
    script_return_integer(call, call->row->tag == NUMBER_ATTEMPT ? attempt->number
                                                                 : attempt->age_ns / NS_PER_S);
    return OK;
}

static enum result give_replies(struct script_call *call, struct error *err)
{
    static const char *const names[] = {"recipient", "outcome", "code", "text", "host"};
    enum { KEYS = 5 };
    const struct flow_attempt *attempt = of(call)->attempt;
    struct script_value *items = script_return_list(call, attempt->recipient_count);
    (void)err;
    for (size_t i = 0; i < attempt->recipient_count; i++) {
        const struct flow_attempt_recipient *recipient = &attempt->recipients[i];
        struct script_value *map = &items[i];
        map->kind = SCRIPT_MAP;
        map->count = KEYS;
        map->keys = arena_alloc_array(call->arena, KEYS, sizeof *map->keys);
        map->items = arena_alloc_array(call->arena, KEYS, sizeof *map->items);
        for (size_t k = 0; k < KEYS; k++)
            map->keys[k] = str_c(names[k]);
        map->items[0] = script_text(recipient->address);
        map->items[1] = script_text(str_c(recipient->outcome));
        map->items[2] =
            (struct script_value){.kind = SCRIPT_INTEGER, .integer = recipient->reply.code};
        map->items[3] = script_text(mail_reply_text(call->arena, &recipient->reply));
        map->items[4] = script_text(recipient->host);
    }
    return OK;
}

/* ---- the table ---- */

enum {
    IN_TRANSACTION = FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    WITH_SENDER = IN_TRANSACTION | FLOW_AT_ATTEMPT,
    WITH_MESSAGE = FLOW_IN_CONTENT | FLOW_AT_ATTEMPT,
};

/* clang-format off */
const struct script_row flow_mail_rows[] = {
    {"authenticated", NULL, "a login succeeded in this session", FLOW_IN_FLOWS, false, NAME_AUTHENTICATED, give_flag, 0},
    {"trusted", NULL, "the client is in trusted_networks", FLOW_IN_FLOWS, false, NAME_TRUSTED, give_flag, 0},
    {"user", NULL, "the login, or \"\"", FLOW_IN_FLOWS, false, NAME_USER, give_text, 0},
    {"client", NULL, "the client's address", FLOW_IN_FLOWS, false, 0, give_client, 0},
    {"client_name", NULL, "the client's confirmed DNS name, or \"\"", FLOW_IN_FLOWS, false, NAME_CLIENT_NAME, give_text, 0},
    {"helo", NULL, "what the client called itself", FLOW_IN_FLOWS, false, NAME_HELO, give_text, 0},
    {"tls", NULL, "the version of TLS, or \"\"", FLOW_IN_FLOWS, false, NAME_TLS, give_text, 0},
    {"listener", NULL, "the listener's name", FLOW_IN_FLOWS, false, NAME_LISTENER, give_text, 0},
    {"session", NULL, "the session's id", FLOW_IN_FLOWS, false, ID_SESSION, give_id, 0},
    {"own_addresses", NULL, "list: addresses that the user may send as, of the backend that knows him", IN_TRANSACTION, false, 0, give_own_addresses, 0},
    {"login", NULL, "what the client logs in as; its password is not shown", FLOW_IN_AUTHENTICATION, false, 0, give_login, 0},
    {"sender", NULL, "the envelope sender; \"\" for <>", WITH_SENDER, false, NAME_SENDER, give_text, 0},
    {"sender_domain", NULL, "its domain", WITH_SENDER, false, NAME_SENDER_DOMAIN, give_text, 0},
    {"recipient", NULL, "the recipient, lower case", FLOW_IN_RECIPIENT, false, NAME_RECIPIENT, give_text, 0},
    {"recipient_domain", NULL, "its domain", FLOW_IN_RECIPIENT, false, NAME_RECIPIENT_DOMAIN, give_text, 0},
    {"recipients", NULL, "list: the recipients' addresses; at an attempt those that are still open", WITH_MESSAGE, false, 0, give_recipients, 50},
    {"message", NULL, "the message's id", WITH_MESSAGE, false, ID_MESSAGE, give_id, 0},
    {"size", NULL, "bytes of the message", WITH_MESSAGE, false, 0, give_size, 0},
    {"spf", NULL, "result of SPF, behind a step that checks it: \"pass\", \"fail\", …; else \"\"", IN_TRANSACTION, false, NAME_SPF, give_text, 0},
    {"dkim", NULL, "result of DKIM, behind verify: of the best signature; else \"\"", FLOW_IN_CONTENT, false, NAME_DKIM, give_text, 0},
    {"dkim_domain", NULL, "domain of the first signature that passed, or \"\"", FLOW_IN_CONTENT, false, NAME_DKIM_DOMAIN, give_text, 0},
    {"dmarc", NULL, "result of DMARC, behind verify; else \"\"", FLOW_IN_CONTENT, false, NAME_DMARC, give_text, 0},
    {"dmarc_policy", NULL, "what the author's domain asks for a message that fails; else \"\"", FLOW_IN_CONTENT, false, NAME_DMARC_POLICY, give_text, 0},
    {"score", NULL, "what the last spam scanner said, 0 if none did", FLOW_IN_CONTENT, false, 0, give_score, 0},
    {"findings", NULL, "list: names of what the steps before found (viruses, rules)", FLOW_IN_CONTENT, false, 0, give_findings, 0},
    {"header", "name", "the first such field, unfolded, or nil", FLOW_IN_CONTENT, false, 0, header, 0},
    {"headers", "[name]", "list: the fields of that name, or of all fields { name =, value = }; at most 1000", FLOW_IN_CONTENT, false, 0, headers, 200},
    {"body", "[offset [, length]]", "bytes of the body as it came, at most 65536 at a time", FLOW_IN_CONTENT, true, 0, body, 100},
    {"text", "[length]", "what a reader sees as text, as UTF-8, without the tags of HTML; at most 262144 bytes", FLOW_IN_CONTENT, true, 0, text, 2000},
    {"parts", "", "list: the MIME parts { type =, name =, size =, attachment = }, at most 1000", FLOW_IN_CONTENT, true, 0, parts, 500},
    {"transport", NULL, "the transport's name", FLOW_AT_ATTEMPT, false, TEXT_TRANSPORT, give_attempt_text, 0},
    {"destination", NULL, "the domain, or the server's name, that it goes to", FLOW_AT_ATTEMPT, false, TEXT_DESTINATION, give_attempt_text, 0},
    {"host", NULL, "the host that was spoken to last, or \"\"", FLOW_AFTER_ATTEMPT, false, TEXT_HOST, give_attempt_text, 0},
    {"attempt", NULL, "which attempt it is, from 1", FLOW_AT_ATTEMPT, false, NUMBER_ATTEMPT, give_attempt_number, 0},
    {"age", NULL, "seconds since the message was accepted", FLOW_AT_ATTEMPT, false, NUMBER_AGE, give_attempt_number, 0},
    {"replies", NULL, "list: { recipient =, outcome = \"delivered\", \"deferred\" or \"failed\", code =, text =, host = } of each open recipient; before an attempt what was said the last time, outcome \"open\"", FLOW_AT_ATTEMPT, false, 0, give_replies, 100},
    {"login_by", "server", "asks a server with smtp: whether login and password are right: \"yes\", \"no\", \"unknown\" or \"error\", and words; only behind a \"yes\" may the function return \"accept\"", FLOW_IN_AUTHENTICATION, true, 0, login, 1000},
    {"add_header", "name, value", "puts a field on top", FLOW_IN_CONTENT, false, 0, add_header, 500},
    {"set_header", "name, value", "one field in place of all of that name", FLOW_IN_CONTENT, false, 0, set_header, 500},
    {"remove_header", "name", "takes all fields of that name out; returns how many there were", FLOW_IN_CONTENT, false, 0, remove_header, 500},
    {"set_sender", "address", "the envelope sender from here on; \"\" for <>", FLOW_IN_CONTENT, false, 0, set_sender, 0},
    {"set_recipient", "address", "the recipient from here on, in a listed domain (another: any_domain)", FLOW_IN_RECIPIENT, false, 0, set_recipient, 0},
    {"set_recipients", "list", "the recipients from here on; those that are new must be in listed domains (others: any_domain)", FLOW_IN_CONTENT, false, 0, set_recipients, 500},
    {"route", "transport", "goes by that transport, one of those that the step names under transports", IN_TRANSACTION, false, 0, route, 0},
    {"add_finding", "name [, words]", "notes what was found, for the trace, for `findings` and for who looks at a held message", FLOW_IN_CONTENT, false, 0, add_finding, 0},
    {"set_score", "number", "the score from here on, for `score`", FLOW_IN_CONTENT, false, 0, set_score, 0},
    {.name = NULL},
};
/* clang-format on */
